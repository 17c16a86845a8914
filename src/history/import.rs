//! What an import changes: which of its runs a history has already, and which it would not keep.

use super::{History, MOST};
use crate::base::human::{count, number};
use crate::series::Record;

/// Numbers of runs to import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Import {
    added: u64,
    /// Runs of which the history has an older record.
    replaced: u64,
    known: u64,
    /// Runs that give way to newer ones.
    surplus: u64,
}

impl Import {
    /// What importing `runs` changes in `history`.
    pub(crate) fn of(history: &History, runs: &History) -> Self {
        let mut after = history.clone();
        after.merge(runs.clone());
        after.prune();
        let mut import = Self::default();
        for (id, run) in &runs.runs {
            let place = match history.runs.get(id) {
                _ if !after.runs.contains_key(id) => &mut import.surplus,
                Some(known) if known >= run => &mut import.known,
                Some(_) => &mut import.replaced,
                None => &mut import.added,
            };
            *place += 1;
        }
        import
    }

    /// Whether the history has everything that it would keep.
    pub(crate) fn is_nothing(&self) -> bool {
        self.added + self.replaced == 0
    }

    /// The numbers, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { added, replaced, known, surplus } = *self;
        let kept = format!("not kept, because the history has the newest {}", number(MOST as u64));
        let numbers = [
            (added, "imported"),
            (replaced, "imported in place of an older record"),
            (known, "known already"),
            (surplus, &*kept),
        ];
        let said = numbers.iter().filter(|(some, _)| *some > 0).map(|(some, what)| format!("{} {what}", number(*some)));
        let all = count(added + replaced + known + surplus, "run");
        format!("{all} read: {}.", said.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Run;

    fn history(numbers: std::ops::Range<u64>) -> History {
        History::of(numbers.map(|number| Run { run: number, time: number, hit: "miss".into(), ..Run::default() }))
    }

    fn said(known: &History, runs: &History) -> (bool, String) {
        let import = Import::of(known, runs);
        (import.is_nothing(), import.sentence())
    }

    #[test]
    fn an_import_says_what_is_new_and_nothing_is_if_all_that_is_kept_is_known() {
        let nothing = History::default();
        assert_eq!(said(&nothing, &history(0..1)), (false, "1 run read: 1 imported.".into()));
        assert_eq!(said(&history(0..3), &history(1..3)), (true, "2 runs read: 2 known already.".into()));
        assert_eq!(said(&history(0..3), &history(1..5)), (false, "4 runs read: 2 imported, 2 known already.".into()));
        let later = History::of([Run { run: 1, time: 9, hit: "exact".into(), ..Run::default() }]);
        let replaced = "1 run read: 1 imported in place of an older record.";
        assert_eq!(said(&history(0..3), &later), (false, replaced.into()));
        let kept = "200 not kept, because the history has the newest 1,000.";
        let all = history(0..1_200);
        assert_eq!(said(&nothing, &all), (false, format!("1,200 runs read: 1,000 imported, {kept}")));
        assert_eq!(said(&history(200..1_200), &all), (true, format!("1,200 runs read: 1,000 known already, {kept}")));
        // What the file itself pushes out counts as not kept, although it is known.
        assert_eq!(said(&history(0..200), &all), (false, format!("1,200 runs read: 1,000 imported, {kept}")));
    }
}
