//! `PriorityLevelConfiguration` (flowcontrol.apiserver.k8s.io/v1): the share of the API server a class of requests gets.

use crate::columns::{age, column, column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::object;
use serde_json::Value;
use serde_json::json;

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Declaration {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

const QUEUES_MAX: i64 = 10_000_000;
/// A hand is dealt from one hash value of so many bits.
/// `kubernetes/apiserver pkg/util/shufflesharding: MaxHashBits`.
const HASH_BITS_MAX: i64 = 60;

/// `kubernetes/kubernetes pkg/apis/flowcontrol/validation: ValidatePriorityLevelConfiguration`.
fn validate(level: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(level);
    let spec = at.field("spec");
    let of = spec.field("type");
    if (object::name(level) == "exempt") != of.is("Exempt") {
        errors.push(FieldError::invalid(&of.path, of.text(), "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    let (limited, exempt) = (spec.field("limited"), spec.field("exempt"));
    of.required_one_of(&["Exempt", "Limited"], errors);
    if limited.is_set() && !of.is("Limited") {
        limited.forbidden(errors, "");
    }
    if exempt.is_set() && of.is("Limited") {
        exempt.forbidden(errors, "");
    }
    match of.text() {
        "Exempt" => shares(&exempt, errors),
        "Limited" if limited.is_set() => {
            shares(&limited, errors);
            response(&limited.field("limitResponse"), errors);
            let borrowing = limited.field("borrowingLimitPercent");
            if borrowing.int() < 0 {
                borrowing.invalid(errors, "if specified, must be a non-negative integer");
            }
        }
        "Limited" => limited.required(errors, ""),
        _ => {}
    }
    super::conditions(&at.fields(&["status", "conditions"]), errors);
}

/// What a level owns of the server, and how much of it others may use.
fn shares(at: &At, errors: &mut FieldErrors) {
    let nominal = at.field("nominalConcurrencyShares");
    if nominal.int() < 0 {
        nominal.invalid(errors, "must be a non-negative integer");
    }
    let lendable = at.field("lendablePercent");
    if !(0..=100).contains(&lendable.int()) {
        lendable.invalid(errors, "must be between 0 and 100, inclusive");
    }
}

fn response(response: &At, errors: &mut FieldErrors) {
    let (of, queuing) = (response.field("type"), response.field("queuing"));
    of.required_one_of(&["Queue", "Reject"], errors);
    match (of.text(), queuing.is_set()) {
        ("Queue", true) => validate_queuing(&queuing, errors),
        ("Queue", false) => queuing.required(errors, ""),
        (_, true) => queuing.forbidden(errors, ""),
        (_, false) => {}
    }
}

fn validate_queuing(queuing: &At, errors: &mut FieldErrors) {
    let (length, queues, hand) =
        (queuing.field("queueLengthLimit"), queuing.field("queues"), queuing.field("handSize"));
    for count in [&length, &queues, &hand] {
        if count.int() <= 0 {
            errors.push(FieldError::invalid(&count.path, count.int(), "must be positive"));
        }
    }
    if queues.int() > QUEUES_MAX {
        queues.invalid(errors, format!("must not be greater than {QUEUES_MAX}"));
    }
    let bits = entropy_bits(queues.int(), hand.int());
    if hand.int() > queues.int() {
        hand.invalid(errors, format!("should not be greater than queues ({})", queues.int()));
    } else if hand.int() > 0 && bits > HASH_BITS_MAX {
        let (deck, size) = (queues.int(), hand.int());
        let detail = format!(
            "required entropy bits of deckSize {deck} and handSize {size} should not be greater than {HASH_BITS_MAX}"
        );
        hand.invalid(errors, detail);
    }
}

/// The bits of a hash value that dealing a hand takes.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "both counts are small integers")]
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    ((deck.max(1) as f64).log2() * hand as f64).ceil() as i64
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Type", "string", "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec", "type"),
        column_of(
            "NominalConcurrencyShares",
            "string",
            "io.k8s.api.flowcontrol.v1.LimitedPriorityLevelConfiguration",
            "nominalConcurrencyShares",
        ),
        column_of("Queues", "string", "io.k8s.api.flowcontrol.v1.QueuingConfiguration", "queues"),
        column_of("HandSize", "string", "io.k8s.api.flowcontrol.v1.QueuingConfiguration", "handSize"),
        column_of("QueueLengthLimit", "string", "io.k8s.api.flowcontrol.v1.QueuingConfiguration", "queueLengthLimit"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let limited = |pointer: &str| match o.pointer(pointer).filter(|value| !value.is_null()) {
        Some(value) => value.clone(),
        None => json!("<none>"),
    };
    vec![
        name(o),
        json!(text(o, "/spec/type")),
        limited("/spec/limited/nominalConcurrencyShares"),
        limited("/spec/limited/limitResponse/queuing/queues"),
        limited("/spec/limited/limitResponse/queuing/handSize"),
        limited("/spec/limited/limitResponse/queuing/queueLengthLimit"),
        age(o, now),
    ]
}
