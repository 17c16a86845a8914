//! A series: the generations of one record under one name, `<name>#g<number>`. No generation is ever changed.
//!
//! A [`Record`] defines its body and how two are merged; every entry has the same envelope, with a digest and signatures.
//!
//! 1. [`find()`] returns the newest generation of a name; numbers that no job can have reached are skipped.
//! 2. [`append()`] writes the next generation. If several jobs write at the same time, one wins the number; the others each leave
//!    an *offer* (an entry with their additions), and one of them writes all offers as one generation. A round of many jobs
//!    therefore costs about three reservations per job and a few seconds, instead of one generation per job.
//! 3. A number that was reserved but never finished is waited for once and then skipped.

mod add;
mod append;
mod clock;
mod envelope;
mod error;
mod find;
mod hit;
mod key;
pub(crate) mod names;
mod number;
mod offers;
mod place;
pub(crate) mod record;
mod search;
pub mod sign;
#[cfg(test)]
mod simulation;
mod union;
#[cfg(test)]
pub(crate) mod world;

#[cfg(test)]
pub(crate) use add::add_at;
pub(crate) use add::{Loaded, Target, add, load};
pub(crate) use append::{Appended, Draft, TakenIn, append};
pub(crate) use clock::{Clock, SystemClock, nonce};
#[cfg(test)]
pub(crate) use envelope::seal;
pub(crate) use envelope::{Format, HEAD, Head};
pub use error::RecordError;
pub(crate) use find::find;
pub(crate) use hit::Hit;
pub(crate) use number::{generation_name, generation_of, generation_prefix, next_number};
pub(crate) use place::{Ahead, Series};
pub(crate) use record::{Record, read_json, write_json};
pub(crate) use search::{Found, MAX_SIZE, Search, decode_to_merge, find_record, most_bytes, read_generation};
pub(crate) use union::{greater, lesser, union};
