//! A definition's fields in the order of their protobuf numbers, those of embedded messages one step further in.

use super::Form;
use crate::facts::{Definition, Field};

/// The fields of a message, by number.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub(super) slots: Vec<Slot>,
}

/// What has a number in a message.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub number: u32,
    pub holds: Holds,
}

#[derive(Clone, Debug)]
pub(super) enum Holds {
    /// A field, under its JSON name.
    Field { name: &'static str, form: Form },
    /// A message whose fields stand among the outer one's in JSON.
    Embedded(Layout),
}

impl Layout {
    pub fn of(definition: &Definition) -> Layout {
        let mut fields: Vec<(&'static str, &[u32])> =
            definition.fields.iter().map(|(name, field)| (*name, numbers(field))).collect();
        fields.retain(|(_, numbers)| !numbers.is_empty());
        fields.sort_by_key(|(_, numbers)| *numbers);
        let mut layout = Layout::build(&fields);
        for slot in &mut layout.slots {
            if let Holds::Field { name, form } = &mut slot.holds {
                *form = super::form(definition, name);
            }
        }
        layout
    }

    /// Fields with the numbers that lead to them, sorted.
    fn build(fields: &[(&'static str, &[u32])]) -> Layout {
        let mut slots = Vec::new();
        for group in fields.chunk_by(|one, other| one.1.first() == other.1.first()) {
            let Some((name, [number, rest @ ..])) = group.first() else { continue };
            let holds = if rest.is_empty() {
                Holds::Field { name, form: Form::OfItsType }
            } else {
                let inside: Vec<_> = group.iter().map(|(name, numbers)| (*name, &numbers[1..])).collect();
                Holds::Embedded(Layout::build(&inside))
            };
            slots.push(Slot { number: *number, holds });
        }
        Layout { slots }
    }

    pub(super) fn slot(&self, number: u64) -> Option<&Slot> {
        let number = u32::try_from(number).ok()?;
        let at = self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?;
        self.slots.get(at)
    }
}

fn numbers(field: &Field) -> &[u32] {
    &field.numbers
}
