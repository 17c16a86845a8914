//! Attaches layers to the store and detaches them: mounting, unpacking, registering. All code that runs as root is in this folder,
//! behind [`perform`].

mod anchor;
mod consumer;
mod derivations;
mod detach;
mod elsewhere;
mod error;
pub(crate) mod facts;
mod first;
mod hold;
mod holders;
mod inspect;
mod layers;
mod marks;
mod mode;
pub(crate) mod mount;
pub(crate) mod mounted;
mod mountinfo;
mod mounting;
mod overlay;
pub(crate) mod privileged;
mod raw_path;
pub(crate) mod readonly;
mod register;
pub mod stream;
pub mod unpack;

pub(crate) use detach::Detached;
pub use error::CacheError;
pub(crate) use error::as_owner;
pub use facts::Admit;
pub(crate) use inspect::RefusedLayer;
pub use layers::{AttachLayer, AttachRequest, Attached};
pub use mode::Mode;
pub use privileged::{Answer, Request, perform};
