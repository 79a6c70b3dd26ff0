"""Things that run a module and can be timed, one file a runtime."""
