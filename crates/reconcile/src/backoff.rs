//! Waits that double with each try of the same thing: the little that a controller must remember and no object says.
//!
//! kubernetes/client-go util/flowcontrol/backoff.go: decides when a try counts as the first again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

/// One thing's last try.
#[derive(Clone, Copy, Debug)]
struct Tried {
    at: Timestamp,
    wait: Duration,
}

impl Tried {
    fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.at)).unwrap_or(Duration::ZERO)
    }

    /// Twice the longest wait without a try: the next one is a first one again.
    fn forgotten(&self, now: Timestamp) -> bool {
        self.age(now) > 2 * MOST
    }
}

/// What has been tried, by a name its user chooses.
#[derive(Default)]
pub struct Backoffs(HashMap<String, Tried>);

impl Backoffs {
    /// How long the thing must still wait; none: it may be tried.
    pub fn left(&self, name: &str, now: Timestamp) -> Option<Duration> {
        let tried = self.0.get(name).filter(|tried| !tried.forgotten(now))?;
        tried.wait.checked_sub(tried.age(now)).filter(|left| !left.is_zero())
    }

    /// Records a try.
    pub fn tried(&mut self, name: String, now: Timestamp) {
        self.0.retain(|_, tried| !tried.forgotten(now));
        let wait = self.0.get(&name).map_or(FIRST, |tried| (tried.wait * 2).min(MOST));
        self.0.insert(name, Tried { at: now, wait });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_doubles_the_wait_until_it_is_long_ago() {
        let mut backoffs = Backoffs::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(backoffs.left("a", at(0)), None);
        backoffs.tried("a".into(), at(0));
        assert_eq!(backoffs.left("a", at(0)), Some(Duration::from_secs(1)));
        assert_eq!(backoffs.left("b", at(0)), None);
        assert_eq!(backoffs.left("a", at(1)), None);
        backoffs.tried("a".into(), at(1));
        backoffs.tried("a".into(), at(3));
        assert_eq!(backoffs.left("a", at(4)), Some(Duration::from_secs(3)));
        for _ in 0..20 {
            backoffs.tried("a".into(), at(10));
        }
        assert_eq!(backoffs.left("a", at(10)), Some(MOST));
        backoffs.tried("a".into(), at(10 + 3 * 15 * 60));
        assert_eq!(backoffs.left("a", at(10 + 3 * 15 * 60)), Some(FIRST));
    }
}
