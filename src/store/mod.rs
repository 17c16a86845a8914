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
pub(crate) use closure::{closed_subset, useless_without};
pub use closure::{closure, closure_with_outputs, referrers_closure};
pub use compact::{SharedMap, SharedSet};
pub(crate) use derivation::{Outputs, outputs};
pub(crate) use dirs::STORE_DIR;
pub use dirs::{StoreDirs, store_argument};
pub use error::StoreError;
pub(crate) use init::ensure;
pub use init::ensure_with;
pub(crate) use locks::{PathLock, StoreLock, own_lock};
pub use locks::{gc_lock, path_lock};
pub(crate) use path::shared_infos;
pub use path::{NarHash, PathInfo, StorePath};
pub(crate) use read::is_valid;
pub use read::read_all;
pub use realisation::read_realisations;
pub(crate) use realisation::{DrvOutput, Realisation, add_realisations};
pub(crate) use register::Registration;
pub(crate) use register::circle;
pub use register::{Registered, register};
pub use roots::roots;
pub(crate) use settings::trusted_public_keys;
pub use unregister::unregister;

/// The records of paths in a snapshot or a database.
pub(crate) type Infos<'a> = std::collections::BTreeMap<StorePath, &'a PathInfo>;
