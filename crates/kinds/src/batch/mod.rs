//! The kinds of the group `batch`: a file each.

pub mod cron;
pub mod cron_job;
pub mod job;
mod validate;
