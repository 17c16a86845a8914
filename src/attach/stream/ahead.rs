//! What is fetched ahead of reads: several readers go through the same stored bytes at once, each one chunk after the other.

use std::ops::Range;

/// Largest number of chunks that are fetched ahead of one reader.
const AHEAD: u32 = 8;
/// Number of readers of the same stored bytes that are told apart.
const READERS: usize = 16;

/// A reader that goes on from chunk to chunk.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// The chunk that it read last.
    last: u32,
    /// How many chunks behind that are fetched ahead.
    ahead: u32,
}

/// The readers of some stored bytes, the latest one at the end.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<Reader>);

impl Readers {
    /// A read of a chunk, which `is_missed` if it is not here. Returns the chunks that are to be fetched ahead: more with each chunk that a
    /// reader goes on, and `first` for a read that continues no other.
    pub(super) fn read(&mut self, chunk: u32, is_missed: bool, first: u32) -> Range<u32> {
        let behind = chunk.saturating_add(1);
        // A file may end, and the next one of the reader begin, within what was fetched ahead.
        let continues = |reader: &Reader| (reader.last..=reader.last.saturating_add(reader.ahead + 1)).contains(&chunk);
        let Some(found) = self.0.iter().rposition(continues) else {
            if !is_missed {
                return behind..behind;
            }
            if self.0.len() == READERS {
                self.0.remove(0);
            }
            let ahead = first.min(AHEAD);
            self.0.push(Reader { last: chunk, ahead });
            return behind..behind.saturating_add(ahead);
        };
        let mut reader = self.0.remove(found);
        if reader.last < chunk {
            reader = Reader { last: chunk, ahead: (reader.ahead * 2).clamp(1, AHEAD) };
        }
        self.0.push(reader);
        behind..behind.saturating_add(reader.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_fetched_ahead_of_a_reader_with_each_chunk() {
        let mut readers = Readers::default();
        assert!(readers.read(3, true, 0).is_empty());
        assert!(readers.read(3, true, 0).is_empty(), "a chunk consists of several reads");
        let ahead = [(4, 5..6), (5, 6..8), (6, 7..11), (7, 8..16), (8, 9..17), (9, 10..18)];
        for (chunk, expected) in ahead {
            // Those that were fetched ahead may be here, or not yet.
            assert_eq!(readers.read(chunk, chunk % 2 == 0, 0), expected);
            assert_eq!(readers.read(chunk, false, 0), expected, "what could not be fetched then is asked for again");
        }
        assert!(readers.read(100, true, 0).is_empty());
        assert_eq!(readers.read(10, false, 0), 11..19, "another one does not stop it");
        assert_eq!(readers.read(u32::MAX, true, 0), u32::MAX..u32::MAX);
    }

    #[test]
    fn readers_at_once_are_told_apart_up_to_a_number() {
        let mut readers = Readers::default();
        let starts = || (0..READERS as u32).map(|number| number * 100);
        for step in 0..3 {
            let ahead: Vec<u32> = starts().map(|start| readers.read(start + step, true, 0).len() as u32).collect();
            assert_eq!(ahead, [step; READERS]);
        }
        for start in starts() {
            assert!(readers.read(10_000 + start, true, 0).is_empty());
        }
        assert!(readers.read(3, true, 0).is_empty(), "the oldest ones are forgotten");
        assert_eq!(readers.0.len(), READERS);
    }

    #[test]
    fn as_much_as_is_usual_is_fetched_ahead_of_a_first_read() {
        let mut readers = Readers::default();
        assert_eq!(readers.read(3, true, 2), 4..6);
        assert_eq!(readers.read(4, false, 2), 5..9, "and more if it goes on");
        assert_eq!(readers.read(50, true, 1000), 51..51 + AHEAD);
        assert!(readers.read(80, false, 2).is_empty(), "it is here, and so may be what follows");
    }

    #[test]
    fn what_is_here_is_no_reason_to_fetch_more() {
        let mut readers = Readers::default();
        assert!((0..20).all(|chunk| readers.read(chunk, false, 0).is_empty()));
    }
}
