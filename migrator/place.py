"""
The place of the database as the engine's own commands need it, without containers.

Everything about mounts is the entrypoint's; what is true of a SQLite file on
any machine is asked here as well.
"""

def wait_for(*_):
    pass
