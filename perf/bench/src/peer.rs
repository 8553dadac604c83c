//! Programs of others that are measured beside ours: started, fed, read and ended here.
