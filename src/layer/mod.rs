//! Layers: store paths packed into one squashfs image, named by its content, and how they come back.

pub(crate) mod anchor;
pub(crate) mod content;
pub mod digest;
pub(crate) mod elsewhere;
pub(crate) mod holders;
pub mod index;
pub(crate) mod marks;
pub mod mount;
pub(crate) mod mountinfo;
mod nar;
mod overlay;
pub mod pack;
pub mod recipe;
pub mod squashfs;
pub mod unpack;

pub(crate) use nar::hash_and_size_of;
pub use nar::{NarError, hash_of, write_nar};
