//! Everything that the cache service and the blob storage can do to a job, with the expected result: one row each.

use super::row::{Row, cold, warm};
use crate::support::fake::{Fault, FaultName as Name, Operation as On, RestPermission};

fn fault(name: Name, on: On) -> Fault {
    Fault::new(name).on(on)
}

fn error(on: On, status: u16) -> Fault {
    fault(Name::Error, on).status(status)
}

/// Trouble while a job looks for what an earlier one saved, and fetches it.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn restores() -> Vec<Row> {
    vec![
        warm("nothing goes wrong").exact(),
        warm("lookups are throttled for a moment")
            .at_restore(fault(Name::Throttle, On::Lookup).retry_after(1).times(1))
            .exact(),
        warm("lookups are throttled for long")
            .at_restore(fault(Name::Throttle, On::Lookup).retry_after(60))
            .miss(&["lookup-failed"], "too many requests"),
        warm("the token may read nothing")
            .all_along(Fault::new(Name::ReadDenied))
            .miss(&["lookup-refused"], "does not let this job read the cache")
            .skipped("refused"),
        warm("the token is not accepted")
            .all_along(Fault::new(Name::Unauthorized))
            .miss(&["lookup-refused"], "does not accept the runtime token")
            .skipped("refused"),
        warm("no cache service lives there")
            .all_along(Fault::new(Name::BadRoute))
            .miss(&["lookup-refused"], "No usable cache service (v2) answers")
            .skipped("refused"),
        warm("the service is one of version 1")
            .all_along(Fault::new(Name::V1Only))
            .miss(&["lookup-refused"], "No usable cache service (v2) answers")
            .skipped("refused"),
        warm("the runner knows only a service of version 1")
            .variable("ACTIONS_RESULTS_URL", "")
            .variable("ACTIONS_CACHE_URL", "http://127.0.0.1:9/")
            .miss(&["no-cache"], "supports only the old cache service (v1)")
            .skipped("no-cache"),
        warm("there is no token")
            .variable("ACTIONS_RUNTIME_TOKEN", "")
            .miss(&["no-cache"], "ACTIONS_RUNTIME_TOKEN is not set")
            .skipped("no-cache"),
        warm("a proxy answers with a page")
            .all_along(Fault::new(Name::Html))
            .miss(&["lookup-refused"], "is not JSON")
            .skipped("refused"),
        warm("a gateway fails without end")
            .at_restore(fault(Name::Html, On::Lookup).status(502))
            .miss(&["lookup-refused"], "502 Bad Gateway"),
        warm("a lookup fails once with 500").at_restore(error(On::Lookup, 500).times(1)).exact(),
        warm("a lookup fails once with 502").at_restore(error(On::Lookup, 502).times(1)).exact(),
        warm("the second lookup fails once with 503").at_restore(error(On::Lookup, 503).after(1).times(1)).exact(),
        warm("lookups fail without end").at_restore(error(On::Lookup, 503)).miss(&["lookup-refused"], "503"),
        warm("the connection of a lookup is lost").at_restore(fault(Name::Drop, On::Lookup).times(2)).exact(),
        warm("the answer to a lookup is lost").at_restore(fault(Name::LostReply, On::Lookup).times(1)).exact(),
        warm("a download fails once").at_restore(error(On::Download, 503).times(1)).exact(),
        warm("the layer's download is throttled once").at_restore(error(On::Download, 429).after(1).times(1)).exact(),
        warm("downloads fail without end")
            .at_restore(error(On::Download, 500))
            .miss(&["snapshot-unreadable"], "500 Internal Server Error"),
        warm("the layer's downloads fail without end")
            .at_restore(error(On::Download, 503).after(1))
            .miss(&["layer-failed"], "could not be fetched"),
        warm("a body is cut").at_restore(Fault::new(Name::Cut).bytes(900).times(2)).exact(),
        warm("every body is cut, further on each time")
            .at_restore(Fault::new(Name::Cut).bytes(150_000).after(1))
            .exact(),
        warm("a body stands still").at_restore(Fault::new(Name::Stall).bytes(500).after(1).times(1)).exact(),
        warm("ranges are ignored").at_restore(Fault::new(Name::IgnoreRange)).exact(),
        warm("a byte of the layer is another one once")
            .at_restore(Fault::new(Name::Corrupt).bytes(5000).after(1).times(1))
            .exact(),
        warm("a byte of the layer stays another one")
            .at_restore(Fault::new(Name::Corrupt).bytes(5000).after(1))
            .miss(&["layer-damaged"], "do not match their digests")
            .skipped("nothing-new"),
        warm("a byte of the snapshot is another one").at_restore(Fault::new(Name::Corrupt).bytes(60).times(1)).exact(),
        warm("a byte of the snapshot stays another one")
            .at_restore(Fault::new(Name::Corrupt).bytes(60))
            .miss(&["snapshot-unreadable"], "Generation 1 of"),
        warm("ranges begin one byte too late").at_restore(Fault::new(Name::Shift).times(2)).exact(),
        warm("ranges always begin one byte too late")
            .at_restore(Fault::new(Name::Shift))
            .miss(&["layer-failed"], "could not be fetched"),
        warm("answers are short once").at_restore(Fault::new(Name::Truncate).bytes(90).times(2)).exact(),
        warm("a page comes in place of the layer")
            .at_restore(fault(Name::Html, On::Download).after(1))
            .miss(&["layer-failed"], "was a web page"),
        warm("a download is not found once").at_restore(error(On::Download, 404).after(1).times(1)).exact(),
        warm("downloads are not found")
            .at_restore(error(On::Download, 404).after(1))
            .miss(&["layer-failed"], "could not be fetched"),
        warm("a lookup is sent elsewhere once").at_restore(fault(Name::Redirect, On::Lookup).times(1)).exact(),
        warm("a signed address is too old").at_restore(fault(Name::ExpiredUrl, On::Download).times(1)).exact(),
        warm("the layer's address is too old")
            .at_restore(fault(Name::ExpiredUrl, On::Download).after(1).times(1))
            .exact(),
        warm("a layer vanishes after its lookup")
            .at_restore(fault(Name::Vanish, On::Lookup).after(1).times(1))
            .miss(&["layer-failed"], "could not be fetched")
            .saved(),
        warm("a layer was evicted, and the list of entries says so")
            .quota_of_one_layer()
            .miss(&["layer-missing", "evicted"], "was evicted from GitHub's cache")
            .saved()
            .stays_cold(),
        warm("a layer was evicted, and the list may not be read")
            .quota_of_one_layer()
            .rest(RestPermission::None)
            .miss(&["layer-missing"], "is no longer in the cache")
            .saved()
            .stays_cold(),
        warm("nobody came for eight days").days_later(8).miss(&[], "no snapshot matches yet").saved(),
        warm("what was saved cannot be found yet").not_found_yet().miss(&[], "no snapshot matches yet").saved(),
        warm("cache-mode read").variable("ACTIONS_CACHE_MODE", "read").exact().skipped("read-only"),
        warm("cache-mode none")
            .variable("ACTIONS_CACHE_MODE", "none")
            .miss(&["lookup-refused", "read-only-token"], "cache-mode 'none'")
            .skipped("read-only"),
        // Who may not read adds to nothing that is there, since it would be lost.
        warm("cache-mode write-only")
            .variable("ACTIONS_CACHE_MODE", "write-only")
            .miss(&["lookup-refused", "save-refused"], "A generation of this key is already in the cache")
            .skipped("refused"),
        warm("a lookup says no and not why")
            .at_restore(fault(Name::NotOk, On::Lookup))
            .miss(&[], "no snapshot matches yet")
            .skipped("nothing-new"),
        warm("a lookup finds nothing, in the words of another server")
            .at_restore(fault(Name::NotFound, On::Lookup))
            .miss(&[], "no snapshot matches yet")
            .skipped("nothing-new"),
        warm("the lookup's form is refused")
            .at_restore(error(On::Lookup, 400))
            .miss(&["lookup-failed"], "400 Bad Request"),
        warm("a lookup fails once with 504").at_restore(error(On::Lookup, 504).times(1)).exact(),
        warm("a range lies behind the end")
            .at_restore(error(On::Download, 416).after(1))
            .miss(&["layer-failed"], "could not be fetched")
            .skipped("nothing-new"),
        warm("a range lies behind the end once").at_restore(error(On::Download, 416).after(1).times(1)).exact(),
    ]
}

/// Trouble while a job saves what it built.
pub(super) fn saves() -> Vec<Row> {
    vec![
        cold("nothing goes wrong").saved(),
        cold("the token may write nothing")
            .at_save(Fault::new(Name::WriteDenied))
            .skipped("refused")
            .says(&["save-refused"], "does not let this job write to the cache"),
        cold("cache-mode write-only")
            .variable("ACTIONS_CACHE_MODE", "write-only")
            .miss(&["lookup-refused"], "cache-mode 'write-only'")
            .saved(),
        cold("a reservation is refused once without a reason").at_save(fault(Name::NotOk, On::Create).times(1)).saved(),
        cold("reservations are refused without a reason")
            .at_save(fault(Name::NotOk, On::Create))
            .failed()
            .says(&["save-failed"], "all of its names are taken"),
        cold("a commit is refused without a reason")
            .at_save(fault(Name::NotOk, On::Finalize))
            .failed()
            .says(&["save-failed"], "no reason given"),
        cold("a commit is refused since the token may write nothing")
            .at_save(fault(Name::WriteDenied, On::Finalize))
            .skipped("refused")
            .says(&["save-refused"], "does not let this job write to the cache"),
        cold("the reservation's form is refused")
            .at_save(error(On::Create, 400))
            .failed()
            .says(&["save-failed"], "400 Bad Request"),
        cold("the storage is used up")
            .at_save(Fault::new(Name::Quota))
            .failed()
            .says(&["save-failed"], "stores nothing more for this repository"),
        cold("the token ran out while the job worked")
            .hours_of_work(7)
            .skipped("refused")
            .says(&["save-refused"], "the token expired"),
        cold("reservations are throttled for a moment")
            .at_save(fault(Name::Throttle, On::Create).retry_after(1).times(1))
            .saved(),
        cold("reservations are throttled for long")
            .at_save(fault(Name::Throttle, On::Create).retry_after(600))
            .failed()
            .says(&["save-failed"], "too many requests"),
        cold("a commit is throttled for a moment")
            .at_save(fault(Name::Throttle, On::Finalize).retry_after(1).times(1))
            .saved(),
        cold("a reservation fails once").at_save(error(On::Create, 503).times(1)).saved(),
        cold("reservations fail without end")
            .at_save(error(On::Create, 500))
            .failed()
            .says(&["save-failed"], "CreateCacheEntry failed 7 times"),
        cold("the answer to the layer's reservation is lost")
            .at_save(fault(Name::LostReply, On::Create).times(1))
            .saved(),
        cold("the answer to the snapshot's reservation is lost")
            .at_save(fault(Name::LostReply, On::Create).after(1).times(1))
            .saved(),
        cold("a reservation is never answered").at_save(fault(Name::Hang, On::Create).times(1)).saved(),
        cold("an upload fails once").at_save(error(On::PutBlob, 503).times(1)).saved(),
        cold("uploads fail without end")
            .at_save(error(On::PutBlob, 500))
            .failed()
            .says(&["save-failed"], "Cannot upload"),
        cold("the connection of an upload is lost").at_save(fault(Name::Drop, On::PutBlob).times(1)).saved(),
        cold("the answer to an upload is lost").at_save(fault(Name::LostReply, On::PutBlob).times(1)).saved(),
        cold("the address of an upload is too old")
            .at_save(fault(Name::ExpiredUrl, On::PutBlob).times(1))
            .failed()
            .says(&["save-failed"], "the upload address is not valid"),
        cold("the bytes are not seen at once").at_save(fault(Name::NotFound, On::Finalize).times(2)).saved(),
        cold("the bytes are never seen")
            .at_save(fault(Name::NotFound, On::Finalize))
            .failed()
            .says(&["save-failed"], "GitHub does not find the"),
        cold("a commit fails once").at_save(error(On::Finalize, 500).times(1)).saved(),
        cold("the service fails in the main step and not in the post step")
            .at_restore(error(On::Lookup, 503))
            .miss(&["lookup-refused"], "503")
            .saved(),
        cold("all answers to commits are lost").at_save(fault(Name::LostReply, On::Finalize)).saved(),
        cold("the answer to the layer's commit is lost").at_save(fault(Name::LostReply, On::Finalize).times(1)).saved(),
        cold("the answer to the snapshot's commit is lost")
            .at_save(fault(Name::LostReply, On::Finalize).after(1).times(1))
            .saved(),
        cold("the save takes too long")
            .at_save(fault(Name::Hang, On::Create))
            .input("save-timeout", "6")
            .failed()
            .says(&["deadline"], "took longer than 6 s and was stopped. Not saved: the "),
        cold("the REST interface fails").at_save(error(On::Usage, 500)).saved(),
        cold("the REST interface may not be asked").rest(RestPermission::None).saved(),
    ]
}
