//! Problems with the cache never break a job, and they are temporary.

mod disk;
mod entries;
