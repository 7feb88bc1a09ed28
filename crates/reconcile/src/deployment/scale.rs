//! A change of `spec.replicas`: followed in proportion when several ReplicaSets are at work.

use super::draft::{DESIRED, Draft, MAX};
use crate::meta;

impl Draft {
    /// Whether the size was changed since the sets at work were last given theirs.
    pub fn is_scaling_event(&mut self) -> bool {
        self.find_new();
        let wanted = self.wanted();
        let active = self.sets.iter().filter(|s| s.replicas > 0);
        active.filter_map(|s| s.number(DESIRED)).any(|desired| desired != wanted)
    }

    pub fn scale(&mut self) {
        let wanted = self.wanted();
        if let Some(only) = self.active_or_latest() {
            if self.sets[only].replicas != wanted {
                self.resize(only, wanted, false);
            }
        } else if self.saturated() {
            for at in self.old() {
                if self.sets[at].replicas > 0 {
                    self.resize(at, 0, false);
                }
            }
        } else if self.rolls() {
            self.scale_in_proportion();
        }
    }

    /// The only set with pods, or with none of them the newest.
    fn active_or_latest(&self) -> Option<usize> {
        let active: Vec<usize> = (0..self.sets.len()).filter(|at| self.sets[*at].replicas > 0).collect();
        match active.as_slice() {
            [] => self.new.or_else(|| self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        }
    }

    /// Whether the new set is at its full size and all of it available.
    fn saturated(&self) -> bool {
        let Some(new) = self.new.map(|at| &self.sets[at]) else { return false };
        let wanted = self.wanted();
        new.replicas == wanted && new.number(DESIRED) == Some(wanted) && new.available() == wanted
    }

    fn scale_in_proportion(&mut self) {
        let wanted = self.wanted();
        let allowed = if wanted > 0 { wanted + self.max_surge() } else { 0 };
        let mut active: Vec<usize> = (0..self.sets.len()).filter(|at| self.sets[*at].replicas > 0).collect();
        let total: i32 = active.iter().map(|at| self.sets[*at].replicas).sum();
        let to_add = allowed - total;
        // Larger first; of equal size the newer when growing, the older when shrinking.
        active.sort_by(|a, b| {
            let (x, y) = (&self.sets[*a], &self.sets[*b]);
            let made = |at: usize| (meta::created(&self.sets[at].read.metadata), at);
            let age = if to_add > 0 { made(*b).cmp(&made(*a)) } else { made(*a).cmp(&made(*b)) };
            y.replicas.cmp(&x.replicas).then(age)
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for at in &active {
            let share = self.proportion(*at, to_add, added);
            added += share;
            sizes.push(self.sets[*at].replicas + share);
        }
        if let Some(largest) = sizes.first_mut()
            && to_add != 0
        {
            *largest = (*largest + to_add - added).max(0);
        }
        for (at, size) in active.into_iter().zip(sizes) {
            self.resize(at, size, true);
        }
    }

    fn proportion(&self, at: usize, to_add: i32, added: i32) -> i32 {
        if self.sets[at].replicas == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let fraction = self.fraction(at);
        let allowed = to_add - added;
        if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
    }

    /// What a set should gain to keep its share of the whole.
    fn fraction(&self, at: usize) -> i32 {
        let set = &self.sets[at];
        if self.wanted() == 0 {
            return -set.replicas;
        }
        let most = self.wanted() + self.max_surge();
        let actual = self.read.status.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let before = set.number(MAX).filter(|n| *n > 0).unwrap_or(actual);
        if before == 0 {
            return 0;
        }
        let size = f64::from(set.replicas) * f64::from(most) / f64::from(before);
        size.round() as i32 - set.replicas
    }
}
