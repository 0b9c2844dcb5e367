/*
 * The one program of the tree: `bin/python3` is it, the commands are links to it.
 *
 * It is Python's own interpreter, embedded, and differs from `python3` in what it takes from the
 * outside, which is nothing: its libraries and modules are found beside it and no variable of the
 * environment is read or written, so that the application, which may be a Python itself, gets the
 * environment of the container and no trace of this one. The dynamic linker comes from the tree
 * too; the Dockerfile writes its path, and that of the libraries (DT_RPATH), into this program.
 */

#include <Python.h>

#include <limits.h>
#include <string.h>
#include <unistd.h>

#ifndef PREFIX
#define PREFIX "/opt/sqlite-entrypoint"
#endif

#define MAJOR Py_STRINGIFY(PY_MAJOR_VERSION)
#define MINOR Py_STRINGIFY(PY_MINOR_VERSION)
#define LIBRARY "/lib/python" MAJOR "." MINOR
#define ARCHIVE "/lib/python" MAJOR MINOR ".zip"

/* `import sys` first: what the main function returns is the exit code. */
#define ENTRYPOINT L"import sys; from entrypoint.main import main; sys.exit(main())"
#define MIGRATOR L"import sys; from migrator.cli import main; sys.exit(main())"

static const char *
basename_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The tree's root: two up from this program, or where it was built for when /proc is missing. */
static void
find_prefix(char *prefix, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", prefix, size - 1);
    if (length > 0) {
        prefix[length] = '\0';
        for (int up = 0; up < 2; up++) {
            char *slash = strrchr(prefix, '/');
            if (slash != NULL) {
                *slash = '\0';
            }
        }
        if (prefix[0] == '/') {
            return;
        }
    }
    snprintf(prefix, size, "%s", PREFIX);
}

static PyStatus
set_path(PyConfig *config, wchar_t **field, const char *prefix, const char *rest)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s", prefix, rest);
    return PyConfig_SetBytesString(config, field, path);
}

static PyStatus
add_search_path(PyConfig *config, const char *prefix, const char *rest)
{
    wchar_t *path = NULL;
    PyStatus status = set_path(config, &path, prefix, rest);
    if (!PyStatus_Exception(status)) {
        status = PyWideStringList_Append(&config->module_search_paths, path);
    }
    PyMem_RawFree(path);
    return status;
}

static PyStatus
set_paths(PyConfig *config, const char *prefix)
{
    static const char *const below[] = {
        LIBRARY, LIBRARY "/lib-dynload", LIBRARY "/site-packages", ARCHIVE,
    };
    PyStatus status = set_path(config, &config->home, prefix, "");
    if (!PyStatus_Exception(status)) {
        status = set_path(config, &config->executable, prefix, "/bin/python3");
    }
    config->module_search_paths_set = 1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(below) && !PyStatus_Exception(status); i++) {
        status = add_search_path(config, prefix, below[i]);
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
    char prefix[PATH_MAX];
    PyStatus status;

    PyConfig_InitPythonConfig(config);
    config->use_environment = 0;
    config->user_site_directory = 0;
    config->write_bytecode = 0;
    config->pathconfig_warnings = 0;
    find_prefix(prefix, sizeof prefix);
    status = set_paths(config, prefix);
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
    PyStatus status = preinitialize();
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
