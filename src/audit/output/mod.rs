//! The outputs, one file each.

pub(crate) mod annotations;
pub(crate) mod cyclonedx;
pub(crate) mod json;
pub(crate) mod sarif;
pub(crate) mod summary;
pub(crate) mod text;
