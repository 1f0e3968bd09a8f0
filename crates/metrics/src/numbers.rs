//! Floating-point numbers in JSON, which has no word for infinity or not-a-number.
//!
//! A number that is not finite is written as `null` and read back as NaN. serde_json writes all others so that they read back bit for
//! bit.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For a required number.
pub(crate) mod required {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        number.is_finite().then_some(*number).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// For a number whose key is left out when there is none: a `null` that is there was a number that is not finite.
pub(crate) mod optional {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        number.filter(|number| number.is_finite()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Some(Option::deserialize(deserializer)?.unwrap_or(f64::NAN)))
    }
}
