//! The Nix store, against real Nix: we read the paths that Nix considers valid, and Nix accepts the paths that we register.

mod changing;
mod facts;
mod locking;
mod nix;
mod reading;
mod rooting;
