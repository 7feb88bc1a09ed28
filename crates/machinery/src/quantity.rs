//! Resource quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! `k8s.io/apimachinery pkg/api/resource/quantity.go`: the grammar, rounding (up, to a billionth) and the canonical
//! form. Amounts are exact to a billionth up to about 1.7e29, beyond which they saturate.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// How a quantity prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Format {
    /// `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// An exact amount; equality and order are of the amount, not of the way it prints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * (NANO / 1000), format }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        text.parse()
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The amount rounded up to a whole number, as upstream's `Value`.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded up, as upstream's `MilliValue`.
    pub fn milli(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// Rounds away from zero, and saturates.
    fn scaled(&self, unit: i128) -> i64 {
        let rounded = div_away(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn as_f64(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a float was asked for")]
        let nanos = self.nanos as f64;
        nanos / 1e9
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        Self { nanos: self.nanos.saturating_mul(i128::from(factor)), ..self }
    }

    fn render(&self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        if self.format == Format::BinarySi && self.nanos.unsigned_abs() >= 1024 * NANO.unsigned_abs() {
            return binary(div_away(self.nanos, NANO));
        }
        let (mantissa, exponent) = decimal(self.nanos);
        let suffix = match self.format {
            Format::DecimalExponent if exponent == 0 => String::new(),
            Format::DecimalExponent => format!("e{exponent}"),
            _ => decimal_suffix(exponent).to_owned(),
        };
        format!("{mantissa}{suffix}")
    }
}

fn div_away(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 { quotient } else { quotient + value.signum() }
}

/// The shortest whole mantissa with an exponent that is a multiple of three, 18 at most.
fn decimal(nanos: i128) -> (i128, i32) {
    let (mut mantissa, mut exponent) = (nanos, -9);
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

fn decimal_suffix(exponent: i32) -> &'static str {
    match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        0 => "",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => unreachable!("decimal() steps by three from -9 to 18"),
    }
}

fn binary(value: i128) -> String {
    let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut mantissa, mut power) = (value, 0);
    while mantissa % 1024 == 0 && power + 1 < suffixes.len() {
        mantissa /= 1024;
        power += 1;
    }
    format!("{mantissa}{}", suffixes[power])
}

/// Sign, digits before and after the point, suffix.
fn split(text: &str) -> Result<(bool, &str, &str, &str), QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(QuantityError::Format),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let whole_end = digits(rest);
    let (whole, after) = rest.split_at(whole_end);
    let (fraction, suffix) = match after.strip_prefix('.') {
        Some(after) => after.split_at(digits(after)),
        None => ("", after),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = suffix[letters..].strip_prefix(['-', '+']).unwrap_or(&suffix[letters..]);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    if whole.is_empty() && fraction.is_empty() {
        // Upstream reads a lone sign or point as zero, but not a lone suffix after nothing at all.
        return if suffix.is_empty() { Err(QuantityError::Format) } else { Err(QuantityError::Numeric) };
    }
    Ok((negative, whole, fraction, suffix))
}

/// The suffix as a power: base, exponent, format.
fn power(suffix: &str) -> Result<(u32, i32, Format), QuantityError> {
    let decimal = |exponent| Ok((10, exponent, Format::DecimalSi));
    let binary = |exponent| Ok((2, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(exponent)) => Ok((10, exponent, Format::DecimalExponent)),
            _ => Err(QuantityError::Suffix),
        },
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, whole, fraction, suffix) = split(text)?;
        let (base, exponent, mut format) = power(suffix)?;
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        // Beyond 37 digits an i128 cannot hold the mantissa; what lies there is cut and rounded up.
        let kept = &digits[..digits.len().min(37)];
        let cut = i32::try_from(digits.len() - kept.len()).unwrap_or(i32::MAX);
        let mut amount = kept.parse::<i128>().unwrap_or(0);
        if digits[kept.len()..].bytes().any(|b| b != b'0') {
            amount = amount.saturating_add(1);
        }
        if base == 2 {
            amount = amount.saturating_mul(1i128 << exponent);
        }
        let fraction = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let exponent = if base == 2 { 0 } else { exponent };
        let scale = 9i32.saturating_add(exponent).saturating_add(cut).saturating_sub(fraction);
        let mut nanos = shift_up(amount, scale);
        if format == Format::BinarySi {
            nanos = nanos.min(i128::from(i64::MAX) * NANO);
            if nanos > 0 && nanos < NANO {
                format = Format::DecimalSi;
            }
        }
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// `amount` times ten to the `scale`, rounded up, saturating; `amount` is not negative.
fn shift_up(amount: i128, scale: i32) -> i128 {
    if amount == 0 {
        return 0;
    }
    let power = 10i128.checked_pow(scale.unsigned_abs());
    match (scale >= 0, power) {
        (true, Some(power)) => amount.saturating_mul(power),
        (true, None) => i128::MAX,
        (false, Some(power)) => div_away(amount, power),
        (false, None) => 1,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.render())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Upstream takes the other's format when this amount is zero.
    fn combined(self, other: Self, nanos: i128) -> Self {
        Self { nanos, format: if self.nanos == 0 { other.format } else { self.format } }
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combined(other, self.nanos.saturating_add(other.nanos))
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combined(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: self.nanos.saturating_neg(), ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, |total, item| total + item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1Ki", "1Ki"),
            ("512", "512"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1500e0", "1500"),
            ("1000000", "1M"),
            ("1100000", "1100k"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("9223372036854775807Ki", "9223372036854775807"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(Quantity::parse("").unwrap_err(), QuantityError::Format);
        assert_eq!(Quantity::parse("abc").unwrap_err(), QuantityError::Format);
        assert_eq!(Quantity::parse("1x").unwrap_err(), QuantityError::Format);
        assert_eq!(Quantity::parse("1mm").unwrap_err(), QuantityError::Suffix);
        assert_eq!(Quantity::parse("1ki").unwrap_err(), QuantityError::Suffix);
    }

    #[test]
    fn values_round_up() {
        let quantity = Quantity::parse("1.0001").unwrap();
        assert_eq!((quantity.value(), quantity.milli()), (2, 1001));
        let sum = Quantity::parse("1Gi").unwrap() + Quantity::parse("1Mi").unwrap();
        assert_eq!(sum.to_string(), "1025Mi");
        assert_eq!((Quantity::ZERO + Quantity::parse("1Gi").unwrap()).to_string(), "1Gi");
    }

    proptest! {
        #[test]
        fn prints_what_reads_back(whole in 0u64..1_000_000_000_000, fraction in 0u32..1_000_000,
                                  suffix in prop::sample::select(vec!["", "m", "k", "M", "Ki", "Mi", "e3"])) {
            let quantity = Quantity::parse(&format!("{whole}.{fraction:06}{suffix}")).unwrap();
            let printed = quantity.to_string();
            // A binary quantity of 1024 and more is printed rounded up to a whole number.
            let again = Quantity::parse(&printed).unwrap();
            prop_assert_eq!(again.value(), quantity.value());
            prop_assert_eq!(again.to_string(), printed);
        }

        #[test]
        fn sums_and_order_agree(a in -1_000_000i64..1_000_000, b in 1i64..1_000_000) {
            let (x, y) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::DecimalSi));
            prop_assert!(x + y > x);
            prop_assert_eq!(x + y - y, x);
            prop_assert_eq!((x + y).milli(), a + b);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eEinumkKMGTP]{0,40}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                prop_assert_eq!(Quantity::parse(&quantity.to_string()).is_ok(), true);
            }
        }
    }
}
