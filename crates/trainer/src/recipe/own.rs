//! What a program passes directly instead of naming it in a recipe.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use taal_model::Transformer;
use taal_tokenizer::Tokenizer;

use super::DataSource;

/// A value from the program that is part of a recipe. Clones share it, and only clones are equal.
pub struct Own<T>(Arc<T>);

impl<T> From<T> for Own<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Own<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Own<T> {}

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Without the value, which would be long.
impl<T> fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own<{}>", std::any::type_name::<T>())
    }
}

/// Everything that a program passes directly.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Brought {
    pub(crate) data: Option<DataSource>,
    pub(crate) tokenizer: Option<Own<Tokenizer>>,
    pub(crate) model: Option<Own<Transformer>>,
}
