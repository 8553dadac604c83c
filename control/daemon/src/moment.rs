//! Moments as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// RFC 3339 in UTC with milliseconds, of a time since 1970.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string()
}
