//! A series: the generations of one record under one name, `<name>#g<number>`. No generation is ever changed.
//!
//! 1. [`find()`] returns the newest generation of a name; numbers that no job of ours can have reached are passed over.
//! 2. [`append()`] writes the next generation. Of several jobs that write at the same time one wins the number; the others
//!    leave an *offer* (an entry of its own that holds what they have to add), and one of them adds all offers in one
//!    generation. So a round of many jobs costs about three reservations a job and a few seconds, not one generation a job.
//! 3. A number that was reserved and never finished is waited for once and then passed over.

mod append;
mod clock;
mod find;
mod hit;
mod key;
mod number;
mod offers;
mod place;
pub mod sign;
#[cfg(test)]
mod simulation;

pub(crate) use append::{Record, TakenIn, append};
pub(crate) use clock::{Clock, SystemClock, nonce};
pub(crate) use find::find;
pub(crate) use hit::Hit;
pub(crate) use number::{generation_of, next_number};
pub(crate) use place::Series;
