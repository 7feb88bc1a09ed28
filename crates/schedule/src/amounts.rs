//! Amounts of resources as the scheduler counts them: CPU in thousandths of a core, everything else in whole units,
//! requests rounded up (kubernetes/kubernetes pkg/scheduler/framework/types.go, Resource).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub type Quantities = BTreeMap<String, Quantity>;

/// kubernetes/kubernetes pkg/scheduler/util/pod_resources.go: what a container without requests counts for in scores.
const UNASKED_CPU_MILLI: i64 = 100;
const UNASKED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
    /// Extended resources, huge pages and volume attach limits.
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    pub fn of(quantities: &Quantities) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities {
            match name.as_str() {
                "cpu" => amounts.cpu_milli = units(quantity, 1000),
                "memory" => amounts.memory_bytes = units(quantity, 1),
                "ephemeral-storage" => amounts.ephemeral_storage_bytes = units(quantity, 1),
                "pods" => {}
                other => drop(amounts.other.insert(other.to_string(), units(quantity, 1))),
            }
        }
        amounts
    }

    fn merge(&mut self, other: &Self, by: fn(i64, i64) -> i64) {
        self.cpu_milli = by(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = by(self.memory_bytes, other.memory_bytes);
        self.ephemeral_storage_bytes = by(self.ephemeral_storage_bytes, other.ephemeral_storage_bytes);
        for (name, amount) in &other.other {
            let mine = self.other.entry(name.clone()).or_insert(0);
            *mine = by(*mine, *amount);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        self.other.retain(|_, amount| *amount != 0);
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.add(other);
        sum
    }

    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0
            && self.memory_bytes == 0
            && self.ephemeral_storage_bytes == 0
            && self.other.values().all(|amount| *amount == 0)
    }

    fn for_scores(mut self) -> Self {
        if self.cpu_milli == 0 {
            self.cpu_milli = UNASKED_CPU_MILLI;
        }
        if self.memory_bytes == 0 {
            self.memory_bytes = UNASKED_MEMORY_BYTES;
        }
        self
    }
}

/// `parts` of a unit, rounded up. What validation has let through parses; what could not be parsed asks for nothing.
pub fn units(quantity: &Quantity, parts: i128) -> i64 {
    let nano = nano(&quantity.0).unwrap_or(0).saturating_mul(parts);
    let whole = nano.div_euclid(NANO) + i128::from(nano.rem_euclid(NANO) > 0);
    i64::try_from(whole).unwrap_or(if whole > 0 { i64::MAX } else { i64::MIN })
}

const NANO: i128 = 1_000_000_000;

fn nano(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let negative = number.starts_with('-');
    let (whole, fraction) =
        number.trim_start_matches(['+', '-']).split_once('.').unwrap_or((number.trim_start_matches(['+', '-']), ""));
    let (multiplier, divisor) = scale(suffix)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(NANO)?.checked_mul(multiplier)?;
    let below = divisor.checked_mul(places)?;
    // Finer than a nano-unit rounds up, as upstream's quantities do.
    let amount = scaled / below + i128::from(scaled % below > 0);
    Some(if negative { -amount } else { amount })
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, ten) } else { (ten, 1) }
        }
    })
}

/// What a pod asks of a node, and what it counts for in scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requests: Amounts,
    pub for_scores: Amounts,
}

/// kubernetes/kubernetes staging component-helpers/resource/helpers.go: containers run together; an init container runs
/// with the sidecars that were started before it; overhead comes on top; requests of the pod as a whole take the place of
/// the containers' sum.
pub fn asked(pod: &Pod) -> Asked {
    Asked { requests: total(pod, &|amounts| amounts), for_scores: total(pod, &Amounts::for_scores) }
}

fn total(pod: &Pod, adjust: &dyn Fn(Amounts) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let of = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        adjust(requests.map(Amounts::of).unwrap_or_default())
    };
    let mut sum = Amounts::default();
    spec.containers.iter().for_each(|container| sum.add(&of(container)));
    let mut sidecars = Amounts::default();
    let mut highest = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&of(container));
            highest.raise_to(&sidecars);
        } else {
            highest.raise_to(&sidecars.plus(&of(container)));
        }
    }
    sum.add(&sidecars);
    sum.raise_to(&highest);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let whole_amounts = Amounts::of(whole);
        for name in whole.keys() {
            match name.as_str() {
                "cpu" => sum.cpu_milli = whole_amounts.cpu_milli,
                "memory" => sum.memory_bytes = whole_amounts.memory_bytes,
                "ephemeral-storage" => sum.ephemeral_storage_bytes = whole_amounts.ephemeral_storage_bytes,
                other => {
                    let amount = whole_amounts.other.get(other).copied().unwrap_or(0);
                    sum.other.insert(other.to_string(), amount);
                }
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Amounts::of(overhead));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let milli = |text: &str| units(&Quantity(text.to_string()), 1000);
        assert_eq!(milli("250m"), 250);
        assert_eq!(milli("1.5"), 1500);
        assert_eq!(milli("1u"), 1);
        let whole = |text: &str| units(&Quantity(text.to_string()), 1);
        assert_eq!(whole("1Gi"), 1 << 30);
        assert_eq!(whole("1.5Ki"), 1536);
        assert_eq!(whole("1e3"), 1000);
        assert_eq!(whole("2E"), 2_000_000_000_000_000_000);
        assert_eq!(whole("100m"), 1);
        assert_eq!(whole("16Ei"), i64::MAX);
    }
}
