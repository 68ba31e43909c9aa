//! Real components over the embedded Kubernetes API, on real sockets.
