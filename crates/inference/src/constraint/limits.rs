//! The library's limits, and what it says where one is exceeded.

use llguidance::api::ParserLimits;

/// What may come next in an object grows with its properties that are not required: the library follows four items of its grammar for
/// each, and has a limit of 2,000 items at one place.
const ITEMS_PER_PROPERTY: usize = 4;

/// How many places the tokens of one step may lead to, as by the library's own limits: 50,000 items in all.
const PLACES: usize = 25;

/// Comparing the beginning of one text with the names of properties that are left costs the library about so much for each.
const FUEL_PER_PROPERTY: u64 = 500;

/// The limits for a form whose objects name so many properties. At most 2,000 are read, so a step takes at most a few times as long as
/// with the library's own limits, which other forms keep.
pub(super) fn of(limits: &ParserLimits, properties: usize) -> ParserLimits {
    let items = ITEMS_PER_PROPERTY * properties;
    ParserLimits {
        max_items_in_row: limits.max_items_in_row + items,
        step_max_items: limits.step_max_items + PLACES * items,
        step_lexer_fuel: limits.step_lexer_fuel + FUEL_PER_PROPERTY * properties as u64,
        ..limits.clone()
    }
}

/// Whether a message of the library says that a form is beyond one of its limits.
pub(super) fn is_exceeded(detail: &str) -> bool {
    const SAID: [&str; 9] = [
        "(grammar) too big",
        "(number of symbols) too big",
        "Current row has ",
        "Too many items",
        "fuel exhausted",
        "lexer precomputation failed",
        "schema too large",
        "too many expressions constructed",
        "too many states",
    ];
    SAID.iter().any(|said| detail.contains(said))
}
