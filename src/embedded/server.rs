//! The embedded store on TCP.
