//! Layers: store paths packed into one squashfs image, which is named by its content, and how they are read.

pub(crate) mod content;
pub mod digest;
mod frame;
pub mod index;
pub(crate) mod nar;
pub mod pack;
pub mod recipe;
pub mod squashfs;

pub(crate) use nar::hash_and_size_of;
pub use nar::hash_of;
pub(crate) use nar::{NarError, write_nar};
