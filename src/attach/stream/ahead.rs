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
    /// reader goes on, and none for a read that continues no other.
    pub(super) fn read(&mut self, chunk: u32, is_missed: bool) -> Range<u32> {
        let behind = chunk.saturating_add(1);
        // A file may end, and the next one of the reader begin, within what was fetched ahead.
        let continues = |reader: &Reader| (reader.last..=reader.last.saturating_add(reader.ahead + 1)).contains(&chunk);
        let Some(found) = self.0.iter().rposition(continues) else {
            if is_missed {
                if self.0.len() == READERS {
                    self.0.remove(0);
                }
                self.0.push(Reader { last: chunk, ahead: 0 });
            }
            return behind..behind;
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
        assert!(readers.read(3, true).is_empty());
        assert!(readers.read(3, true).is_empty(), "a chunk consists of several reads");
        let ahead = [(4, 5..6), (5, 6..8), (6, 7..11), (7, 8..16), (8, 9..17), (9, 10..18)];
        for (chunk, expected) in ahead {
            // Those that were fetched ahead may be here, or not yet.
            assert_eq!(readers.read(chunk, chunk % 2 == 0), expected);
            assert_eq!(readers.read(chunk, false), expected, "what could not be fetched then is asked for again");
        }
        assert!(readers.read(100, true).is_empty());
        assert_eq!(readers.read(10, false), 11..19, "another one does not stop it");
        assert_eq!(readers.read(u32::MAX, true), u32::MAX..u32::MAX);
    }

    #[test]
    fn readers_at_once_are_told_apart_up_to_a_number() {
        let mut readers = Readers::default();
        let starts = || (0..READERS as u32).map(|number| number * 100);
        for step in 0..3 {
            let ahead: Vec<u32> = starts().map(|start| readers.read(start + step, true).len() as u32).collect();
            assert_eq!(ahead, [step; READERS]);
        }
        for start in starts() {
            assert!(readers.read(10_000 + start, true).is_empty());
        }
        assert!(readers.read(3, true).is_empty(), "the oldest ones are forgotten");
        assert_eq!(readers.0.len(), READERS);
    }

    #[test]
    fn what_is_here_is_no_reason_to_fetch_more() {
        let mut readers = Readers::default();
        assert!((0..20).all(|chunk| readers.read(chunk, false).is_empty()));
    }
}
