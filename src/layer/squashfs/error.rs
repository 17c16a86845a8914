//! Why an image is not read.

use std::io;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read, or ends too early.
    #[error("the layer cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not an image that this program writes, or it was damaged.
    #[error("the layer is not a sound squashfs image: {0}")]
    Malformed(&'static str),
    /// It is an image of another kind.
    #[error("the layer is not one of ours: {0}")]
    Foreign(String),
}
