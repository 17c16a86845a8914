//! Mutations of bytes and of JSON.

use serde_json::{Value, json};

use crate::support::random::mix;

/// A source of mutations that are the same for the same seed.
pub(super) struct Mutator(u64);

impl Mutator {
    /// The mutations of one input.
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5eed))
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % end.max(1) as u64) as usize
    }

    /// Changes some bytes: flips, cuts, copies and fills.
    pub(super) fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let length = bytes.len();
            if length == 0 {
                return;
            }
            let (at, end) = (self.below(length), self.below(length) + 1);
            let (start, end) = (at.min(end), at.max(end).min(at + 64));
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, b'"', b'/', 0x7f, 0x80, 0xff][self.below(7)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(start..end.max(start))),
                4 => {
                    let part = bytes[start..end.max(start)].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes[start..end.max(start)].fill(b'9'),
            }
        }
    }

    /// Changes some values somewhere in `value`.
    pub(super) fn json(&mut self, value: &mut Value) {
        for _ in 0..=self.below(3) {
            self.one(value);
        }
    }

    fn one(&mut self, value: &mut Value) {
        // Down to some value, more often to a deep one than not.
        let count = match value {
            Value::Array(list) => list.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if count > 0 && self.below(6) > 0 {
            let number = self.below(count);
            match value {
                Value::Array(list) => return self.one(&mut list[number]),
                Value::Object(fields) => {
                    return self.one(fields.values_mut().nth(number).expect("it is below the count"));
                }
                _ => {}
            }
        }
        match value {
            Value::Array(list) if !list.is_empty() && self.below(2) == 0 => {
                let number = self.below(list.len());
                let element = list[number].clone();
                match self.below(3) {
                    0 => drop(list.remove(number)),
                    1 => list.insert(self.below(number + 1), element),
                    _ => list.extend(std::iter::repeat_n(element, 1 + self.below(2000))),
                }
            }
            Value::Object(fields) if !fields.is_empty() && self.below(2) == 0 => {
                let name = fields.keys().nth(self.below(fields.len())).expect("it is below the count").clone();
                let field = fields.remove(&name).expect("it is there");
                if self.below(2) == 0 {
                    fields.insert(format!("{name}{}", ["", "x", "/..", "\u{202e}"][self.below(4)]), field);
                }
            }
            _ => *value = self.value(value),
        }
    }

    fn value(&mut self, old: &Value) -> Value {
        match self.below(14) {
            0 => json!(0),
            1 => json!(-1),
            2 => json!(u64::MAX),
            3 => json!(i64::MIN),
            4 => json!(1_u64 << self.below(64)),
            5 => json!(1e300),
            6 => json!(""),
            7 => json!("x".repeat(1 << self.below(18))),
            8 => json!("../../etc/passwd"),
            9 => json!("\u{0}\n::error::\u{1b}[31m"),
            10 => json!([]),
            11 => json!({}),
            12 => json!([old, old]),
            _ => Value::Null,
        }
    }
}
