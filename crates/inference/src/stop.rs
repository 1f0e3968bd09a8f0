//! Stop strings in a stream of text: which text is safe to show, and where the text ends.

/// Passes text on once it can no longer be part of a stop string.
///
/// ```
/// use taal_inference::{Passed, StopFilter};
///
/// let stops = ["END".to_owned()];
/// let mut filter = StopFilter::new(&stops);
/// assert_eq!(filter.push("the E"), Passed::Text("the ".to_owned()));
/// assert_eq!(filter.push("ND of it"), Passed::Stopped(String::new()));
/// ```
#[derive(Debug)]
pub struct StopFilter<'a> {
    stops: &'a [String],
    /// Text that is held back because it ends in a possible beginning of a stop string.
    held: String,
}

/// The result for a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// This text may be shown; may be empty.
    Text(String),
    /// A stop string is complete: this is the last text before it.
    Stopped(String),
}

impl<'a> StopFilter<'a> {
    /// A filter for these stop strings; an empty one stops at once.
    pub fn new(stops: &'a [String]) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece of text. The first complete stop string ends the text; of several, the longest. The text passed on
    /// does not depend on how it is split into pieces.
    pub fn push(&mut self, piece: &str) -> Passed {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return Passed::Stopped(std::mem::take(&mut self.held));
        }
        let free = self.held.len() - self.possible_start();
        let rest = self.held.split_off(free);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text that was held back, once nothing follows it.
    pub fn finish(self) -> String {
        self.held
    }

    /// Length of the longest end of the held text that is the beginning of a stop string.
    fn possible_start(&self) -> usize {
        let longest = |stop: &String| {
            let mut beginnings = stop.char_indices().map(|(end, _)| end).rev();
            beginnings.find(|&end| self.held.ends_with(&stop[..end])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}
