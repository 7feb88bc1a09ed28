//! The value checks of a CustomResourceDefinition's schema, which say nothing of a value's shape.

use std::sync::Arc;

use indexmap::IndexMap;
use regex::Regex;
use serde_json::Value;

/// Checks on one value, and through `properties` and `items` (inside of `allOf` and the like) on those in it.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    pub format: Option<Arc<str>>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    /// In characters.
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    /// As written, and translated.
    pub pattern: Option<(Arc<str>, Regex)>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub allowed: Vec<Value>,
    pub required: Vec<Arc<str>>,
    pub properties: IndexMap<Arc<str>, Validation>,
    pub additional_properties: Option<Box<Validation>>,
    pub items: Option<Box<Validation>>,
    pub all_of: Vec<Validation>,
    pub any_of: Vec<Validation>,
    pub one_of: Vec<Validation>,
    pub not: Option<Box<Validation>>,
    /// `type`, which only `anyOf` inside of an int-or-string may name.
    pub type_name: Option<Arc<str>>,
}
