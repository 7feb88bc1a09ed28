//! What some controllers need that is neither an object nor a setting: keys, held by whoever runs them.

use std::fmt;

/// What the token in a `kubernetes.io/service-account-token` Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretToken {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    pub secret: String,
}

/// Signs tokens with the cluster's ServiceAccount key.
pub trait TokenSigner: fmt::Debug + Send + Sync {
    /// A token that is good for as long as its Secret holds it.
    ///
    /// # Errors
    /// The key cannot sign.
    fn sign(&self, token: &SecretToken) -> Result<String, String>;
}
