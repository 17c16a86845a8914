//! Faults that can be switched on while the fake runs.

use serde::{Deserialize, Serialize};

use super::operation::Operation;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FaultName {
    /// An error with [`Fault::status`] (500 if unset) in the form of the interface that is asked.
    Error,
    /// A page of HTML with [`Fault::status`] (200 if unset), as a proxy in between sends it.
    Html,
    /// 429 with [`Fault::retry_after`] seconds (30 if unset).
    Throttle,
    /// 401: the token is not accepted.
    Unauthorized,
    /// 403: the token may read no scope.
    ReadDenied,
    /// 200 and `ok: false`: the token may write no scope.
    WriteDenied,
    /// 200 and `ok: false` without a message, as some servers say that a name is taken.
    NotOk,
    /// 403 with "insufficient usage": the storage budget is used up.
    Quota,
    /// 404 `not_found`, as a finalize answers when the blob is not visible to it yet.
    NotFound,
    /// 404 `bad_route` for every remote call: no cache service lives here.
    BadRoute,
    /// A server of cache service v1: remote calls are unknown to it, the old interface answers.
    V1Only,
    /// 403 from the blob store, as if the signed address were too old.
    ExpiredUrl,
    /// The connection ends before the request is looked at.
    Drop,
    /// The request is never answered.
    Hang,
    /// The request is carried out, and the connection ends before its answer.
    LostReply,
    /// The entry that a lookup found is evicted before it can be read.
    Vanish,
    /// The body of a download ends with its connection after [`Fault::bytes`].
    Cut,
    /// The body of a download stands still after [`Fault::bytes`].
    Stall,
    /// The whole blob with status 200 and without its length, whatever range was asked for.
    IgnoreRange,
    /// The byte at [`Fault::bytes`] of a download's body is another one.
    Corrupt,
    /// A download is answered, by all rules, with no more than [`Fault::bytes`] of what was asked for.
    Truncate,
    /// A range that begins one byte later than what was asked for, and says so.
    Shift,
    /// The body of a download brings [`Fault::bytes`] a second (1 if unset).
    Trickle,
    /// 307 to another address of the same host.
    Redirect,
}

/// When a fault shows itself in the course of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In the place of the request's work.
    Answer,
    /// Within the work of a lookup.
    Work,
    /// In the body of a download.
    Body,
    /// After the work.
    Reply,
}

impl FaultName {
    /// When it shows itself.
    pub(crate) fn stage(self) -> Stage {
        match self {
            Self::LostReply => Stage::Reply,
            Self::Vanish => Stage::Work,
            Self::Cut
            | Self::Stall
            | Self::IgnoreRange
            | Self::Corrupt
            | Self::Truncate
            | Self::Shift
            | Self::Trickle => Stage::Body,
            _ => Stage::Answer,
        }
    }

    /// Whether it is about `operation` where [`Fault::on`] names none.
    fn concerns(self, operation: Operation) -> bool {
        match self {
            Self::Error | Self::Html | Self::Unauthorized => operation.is_call(),
            Self::Throttle => matches!(operation, Operation::Create | Operation::Lookup),
            Self::BadRoute | Self::V1Only => operation.is_call() || operation == Operation::Unknown,
            Self::ReadDenied | Self::Vanish => operation == Operation::Lookup,
            Self::WriteDenied | Self::NotOk | Self::Quota => operation == Operation::Create,
            Self::NotFound => operation == Operation::Finalize,
            Self::ExpiredUrl => operation.is_blob(),
            Self::Drop | Self::Hang | Self::LostReply | Self::Redirect => operation.is_call() || operation.is_blob(),
            Self::Cut
            | Self::Stall
            | Self::IgnoreRange
            | Self::Corrupt
            | Self::Truncate
            | Self::Shift
            | Self::Trickle => operation == Operation::Download,
        }
    }

    /// Whether the fake can play it on `operation`.
    fn can_strike(self, operation: Operation) -> bool {
        match self.stage() {
            Stage::Work => operation == Operation::Lookup,
            Stage::Body => operation == Operation::Download,
            Stage::Answer | Stage::Reply => true,
        }
    }
}

/// One fault and when it strikes. The JSON form is that of the control address `POST /_fake/fault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// What goes wrong.
    pub name: FaultName,
    /// With which operation; with those that the fault is usually about if unset.
    #[serde(default)]
    pub on: Option<Operation>,
    /// How often at most; without end if unset.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many fitting requests are spared first.
    #[serde(default)]
    pub after: u64,
    /// Every how many of the fitting requests after those; each of them if unset.
    #[serde(default)]
    pub every: Option<u64>,
    /// A number of bytes, or an offset. See the fault.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// A status. See the fault.
    #[serde(default)]
    pub status: Option<u16>,
    /// Seconds. See the fault.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

impl Fault {
    /// A fault that strikes every request it is usually about.
    pub(crate) fn new(name: FaultName) -> Self {
        Self { name, on: None, times: None, after: 0, every: None, bytes: None, status: None, retry_after: None }
    }

    /// Only with this operation.
    #[must_use]
    pub(crate) fn on(mut self, operation: Operation) -> Self {
        self.on = Some(operation);
        self
    }

    /// At most so often.
    #[must_use]
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Not with the first `after` requests.
    #[must_use]
    pub(crate) fn after(mut self, after: u64) -> Self {
        self.after = after;
        self
    }

    /// Only with every `every`th request.
    #[must_use]
    pub(crate) fn every(mut self, every: u64) -> Self {
        self.every = Some(every);
        self
    }

    /// After so many bytes, or at this offset.
    #[must_use]
    pub(crate) fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// With this status.
    #[must_use]
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// With this many seconds in `Retry-After`.
    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Reads the form of the command line: a name, or a name, a colon and `field=value` pairs with commas between
    /// them, such as `error:on=create,status=503,times=2`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, fields) = text.split_once(':').unwrap_or((text, ""));
        let mut object = serde_json::Map::new();
        object.insert("name".to_owned(), name.into());
        for field in fields.split(',').filter(|field| !field.is_empty()) {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("{field:?} in the fault {text:?} is not field=value."))?;
            object.insert(key.to_owned(), value.parse::<u64>().map_or_else(|_| value.into(), Into::into));
        }
        serde_json::from_value(object.into()).map_err(|error| format!("{text:?} is not a fault: {error}."))
    }

    fn fits(&self, operation: Operation) -> bool {
        self.name.can_strike(operation) && self.on.map_or_else(|| self.name.concerns(operation), |on| on == operation)
    }
}

/// The faults that are switched on.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Active>);

#[derive(Debug)]
struct Active {
    fault: Fault,
    seen: u64,
    struck: u64,
}

impl Faults {
    /// Switches one on.
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(Active { fault, seen: 0, struck: 0 });
    }

    /// Switches all off.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The first fault that strikes this request at this stage. Every fault that fits the request counts it.
    pub(super) fn strike(&mut self, operation: Operation, stage: Stage) -> Option<Fault> {
        let mut struck = None;
        for active in self.0.iter_mut().filter(|active| active.fault.name.stage() == stage) {
            if active.fault.fits(operation) && active.count() && struck.is_none() {
                active.struck += 1;
                struck = Some(active.fault.clone());
            }
        }
        struck
    }
}

impl Active {
    /// Counts a request; whether it is one that is struck.
    fn count(&mut self) -> bool {
        self.seen += 1;
        let past = self.seen.saturating_sub(self.fault.after);
        past > 0
            && past.is_multiple_of(self.fault.every.unwrap_or(1).max(1))
            && self.fault.times.is_none_or(|times| self.struck < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(fault: Fault, requests: usize) -> Vec<bool> {
        let mut faults = Faults::default();
        let (on, stage) = (Operation::Create, fault.name.stage());
        faults.add(fault);
        (0..requests).map(|_| faults.strike(on, stage).is_some()).collect()
    }

    #[test]
    fn a_fault_strikes_when_it_is_told_to() {
        let error = || Fault::new(FaultName::Error);
        assert_eq!(pattern(error(), 3), [true, true, true]);
        assert_eq!(pattern(error().times(1), 3), [true, false, false]);
        assert_eq!(pattern(error().after(1).times(1), 3), [false, true, false]);
        assert_eq!(pattern(error().every(2), 4), [false, true, false, true]);
        assert_eq!(pattern(error().after(1).every(2).times(1), 6), [false, false, true, false, false, false]);
        assert_eq!(pattern(error().on(Operation::Lookup), 2), [false, false]);
    }

    #[test]
    fn the_form_of_the_command_line_is_read() {
        let want = Fault::new(FaultName::Error).on(Operation::Create).status(503).times(2);
        assert_eq!(Fault::parse("error:on=create,status=503,times=2"), Ok(want));
        assert_eq!(Fault::parse("ignore-range"), Ok(Fault::new(FaultName::IgnoreRange)));
        assert!(Fault::parse("no-such-fault").is_err());
        assert!(Fault::parse("error:times").is_err());
        assert!(Fault::parse("error:tmies=1").is_err());
    }
}
