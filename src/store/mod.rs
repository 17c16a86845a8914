//! The Nix store on this machine: where it is, what is valid in it, and how paths become valid.

mod address;
pub(crate) mod busy;
mod closure;
mod compact;
pub(crate) mod daemon;
mod database;
mod derivation;
mod dirs;
mod error;
mod init;
mod leftovers;
mod locks;
pub(crate) mod own;
mod path;
mod read;
mod realisation;
mod register;
pub(crate) mod rights;
mod roots;
mod settings;
pub mod tree;
mod unregister;

pub(crate) use address::{content_address, fault, is_signature};
pub use closure::{closed_subset, closure, closure_with_outputs, referrers_closure, useless_without};
pub use compact::{SharedMap, SharedSet};
pub use database::SUPPORTED_SCHEMA;
pub(crate) use derivation::{Outputs, outputs};
pub use dirs::{STORE_DIR, StoreDirs, store_argument};
pub use error::StoreError;
pub use init::{ensure, ensure_with};
pub use locks::{PathLock, StoreLock, gc_lock, gc_lock_within, own_lock, own_lock_within, path_lock};
pub(crate) use path::shared_infos;
pub use path::{NarHash, PathInfo, StorePath, StorePathError};
pub use read::{is_valid, read_all};
pub use realisation::{DrvOutput, Realisation, add_realisations, read_realisations};
pub(crate) use register::circle;
pub use register::{Registered, Registration, register};
pub use roots::roots;
pub(crate) use settings::trusted_public_keys;
pub use unregister::unregister;

/// What a snapshot or a database says of some paths.
pub(crate) type Infos<'a> = std::collections::BTreeMap<StorePath, &'a PathInfo>;
