//! The Nix store, against real Nix: what it says is valid is what we read, and what we register it takes for its own.

mod changing;
mod facts;
mod locking;
mod nix;
mod reading;
mod rooting;
