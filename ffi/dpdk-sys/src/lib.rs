//! Raw bindings to the installed libdpdk, plus a C shim for its static inlines.
