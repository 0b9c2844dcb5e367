/*
 * Python's own interpreter, embedded; `libexec/python3` is it, start.c executes it.
 *
 * It differs from `python3` in what it takes from the outside, which is nothing: its libraries and
 * modules are found beside it and no variable of the environment is read or written, so that the
 * application, which may be a Python itself, gets the environment of the container and no trace of
 * this one. The dynamic linker comes from the tree too; the Dockerfile writes its path, and that
 * of the libraries (DT_RPATH), into this program.
 */

#include <Python.h>

#include <string.h>

#include "frozen.h"
#include "hidden.h"

#define PREFIX "/opt/sqlite-entrypoint"
#define LIBRARY PREFIX "/lib/python" Py_STRINGIFY(PY_MAJOR_VERSION)

/*
 * `pathlib` asks for two modules of Windows. For a module that is not found Python reads the list
 * of its archive, which takes as long as all of its own start; of these it knows that they are not
 * there (None in `sys.modules`).
 */
#define BEGIN L"import sys; sys.modules.update(nt=None, _winapi=None); "
#define ENTRYPOINT BEGIN L"from entrypoint.__main__ import main; main()"
#define MIGRATOR BEGIN L"from migrator.__main__ import main; main()"

static const char *const search_path[] = {
    LIBRARY "." Py_STRINGIFY(PY_MINOR_VERSION),
    LIBRARY "." Py_STRINGIFY(PY_MINOR_VERSION) "/lib-dynload",
    LIBRARY "." Py_STRINGIFY(PY_MINOR_VERSION) "/site-packages",
    LIBRARY Py_STRINGIFY(PY_MINOR_VERSION) ".zip",
};

extern char **environ;

/* Undo what start.c did, before Python copies the environment. */
static void
show_hidden(void)
{
    for (char **each = environ; *each != NULL; each++) {
        if (strncmp(*each, HIDDEN, strlen(HIDDEN)) == 0) {
            memcpy(*each, SHOWN, strlen(SHOWN));
        }
    }
}

static const char *
basename_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static PyStatus
set_paths(PyConfig *config)
{
    PyStatus status = PyConfig_SetBytesString(config, &config->home, PREFIX);
    if (!PyStatus_Exception(status)) {
        status = PyConfig_SetBytesString(config, &config->executable, PREFIX "/bin/python3");
    }
    if (!PyStatus_Exception(status)) {
        /* Where a frozen package has the modules that are not frozen. */
        status = PyConfig_SetBytesString(config, &config->stdlib_dir, search_path[0]);
    }
    config->module_search_paths_set = 1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(search_path) && !PyStatus_Exception(status); i++) {
        wchar_t *path = Py_DecodeLocale(search_path[i], NULL);
        status = PyWideStringList_Append(&config->module_search_paths, path);
        PyMem_RawFree(path);
    }
    return status;
}

static PyStatus
set_command(PyConfig *config, const wchar_t *code)
{
    config->isolated = 1;
    config->safe_path = 1;
    config->parse_argv = 0;
    return PyConfig_SetString(config, &config->run_command, code);
}

static PyStatus
configure(PyConfig *config, int argc, char **argv)
{
    const char *name = basename_of(argc > 0 ? argv[0] : "entrypoint");
    PyStatus status;

    PyConfig_InitPythonConfig(config);
    config->use_environment = 0;
    config->user_site_directory = 0;
    config->write_bytecode = 0;
    config->pathconfig_warnings = 0;
    status = set_paths(config);
    if (!PyStatus_Exception(status) && strncmp(name, "python", 6) != 0) {
        status = set_command(config, strcmp(name, "migrator") == 0 ? MIGRATOR : ENTRYPOINT);
    }
    if (!PyStatus_Exception(status)) {
        status = PyConfig_SetBytesArgv(config, argc, argv);
    }
    return status;
}

/* UTF-8 whatever the locale is, and no `LC_CTYPE` of ours in the environment (PEP 538). */
static PyStatus
preinitialize(void)
{
    PyPreConfig preconfig;
    PyPreConfig_InitPythonConfig(&preconfig);
    preconfig.use_environment = 0;
    preconfig.utf8_mode = 1;
    preconfig.coerce_c_locale = 0;
    return Py_PreInitialize(&preconfig);
}

int
main(int argc, char **argv)
{
    PyConfig config;
    PyStatus status;

    show_hidden();
    PyImport_FrozenModules = frozen_modules;
    status = preinitialize();
    if (!PyStatus_Exception(status)) {
        status = configure(&config, argc, argv);
        if (!PyStatus_Exception(status)) {
            status = Py_InitializeFromConfig(&config);
        }
        PyConfig_Clear(&config);
    }
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    return Py_RunMain();
}
