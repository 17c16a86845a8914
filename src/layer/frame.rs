//! The parts of a stored block that stay the same where a file changes.
//!
//! A block of a large file is one zstd frame, and a frame is a sequence of zstd's own blocks of at most 128 KiB, which depend only on
//! what precedes them. Those before a change are the same as before it; of a program in which a store hash was replaced by another,
//! many of those after it are as well. The index lists parts, so a recipe sends only those that changed.
//!
//! Source of the format: RFC 8878, section 3.1.1.

use super::squashfs::UNCOMPRESSED_BLOCK;

/// Most bytes of one of zstd's own blocks before compression.
pub(super) const ZSTD_BLOCK: usize = 128 * 1024;
/// A part has at least this many bytes, unless it is the last one: each costs an entry in the index.
const LEAST: usize = 16 * 1024;

/// Splits the stored bytes of a block with this size word. What is not a sound frame is one part.
pub(super) fn parts(stored: &[u8], word: u32) -> Vec<&[u8]> {
    if word & UNCOMPRESSED_BLOCK != 0 {
        return stored.chunks(ZSTD_BLOCK).collect();
    }
    split(stored).unwrap_or_else(|| vec![stored])
}

fn split(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let descriptor = *frame.get(4)?;
    let (has_window, flag) = (descriptor & 0x20 == 0, descriptor >> 6);
    let content_size = if flag == 0 { usize::from(!has_window) } else { 1 << flag };
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let mut at = 5 + usize::from(has_window) + content_size + dictionary;
    let (mut parts, mut start) = (Vec::new(), 0);
    loop {
        let header = frame.get(at..at + 3)?;
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        // A block of one repeated byte stores it once.
        at += 3 + if header >> 1 & 3 == 1 { 1 } else { (header >> 3) as usize };
        let is_last = header & 1 == 1;
        if is_last {
            parts.push(frame.get(start..)?);
            return (at <= frame.len()).then_some(parts);
        }
        if at - start >= LEAST {
            parts.push(frame.get(start..at)?);
            start = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::layer::pack::compressor;

    /// Text of numbers, which compresses to about a third.
    fn text(seed: u64) -> Vec<u8> {
        let mut hash = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        let mut noise = vec![0; 300_000];
        hash.fill(&mut noise);
        let lines: Vec<String> = noise.chunks(4).map(|four| format!("{:?}\n", &four[..3])).collect();
        let lines = lines.concat();
        lines.into_bytes()[..1 << 20].to_vec()
    }

    fn compressed(plain: &[u8]) -> Vec<u8> {
        compressor(6).unwrap().compress(plain).unwrap()
    }

    #[test]
    fn parts_before_a_change_stay_the_same() {
        let before = text(1);
        let old = compressed(&before);
        let known: BTreeSet<&[u8]> = parts(&old, old.len() as u32).into_iter().collect();
        assert!(known.len() > 5, "{}", known.len());
        let new_bytes = |plain: &[u8]| {
            let new = compressed(plain);
            let all = parts(&new, new.len() as u32);
            assert_eq!(all.concat(), new);
            all.iter().filter(|part| !known.contains(*part)).map(|part| part.len()).sum::<usize>()
        };
        assert_eq!(new_bytes(&before), 0);
        let mut at_the_end = before.clone();
        at_the_end.truncate((1 << 20) - 100);
        at_the_end.extend(b"another line");
        assert!(new_bytes(&at_the_end) < old.len() / 4);
        let mut in_the_middle = before.clone();
        in_the_middle[500_000..500_032].copy_from_slice(b"0123456789abcdfghijklmnpqrsvwxyz");
        assert!(new_bytes(&in_the_middle) < old.len() / 4 * 3);
        assert!(new_bytes(&text(2)) > old.len() / 2);
    }

    #[test]
    fn whatever_is_no_frame_is_one_part() {
        let frame = compressed(&text(3));
        for end in [0, 1, 5, 8, 20_000, frame.len() - 1] {
            assert_eq!(parts(&frame[..end], end as u32), [&frame[..end]], "{end}");
        }
        let noise = vec![7; 300_000];
        let lengths: Vec<usize> =
            parts(&noise, noise.len() as u32 | UNCOMPRESSED_BLOCK).iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [131_072, 131_072, 37_856]);
    }
}
