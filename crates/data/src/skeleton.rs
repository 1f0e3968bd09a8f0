//! What a chat format writes around the messages of a conversation: the same for all conversations with the same roles, so that it is
//! learned once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use crate::chat::{ChatFormat, Parts, Rendered};
use crate::message::{Message, Role};

/// The most layouts of roles that are kept; long conversations may all have their own.
const MAX_LAYOUTS: usize = 4096;

/// The role of each message, and whether it is learned.
type Roles = Vec<(Role, bool)>;

/// The skeletons of a format by roles.
///
/// A conversation of the same roles whose text is exactly a skeleton with its own messages in the places of the others has each answer
/// where the skeleton says, because it is there, letter by letter, between what the format writes around it. Every other conversation
/// is searched as if there was no skeleton.
#[derive(Debug, Default)]
pub(crate) struct Skeletons {
    known: RefCell<HashMap<Roles, Known>>,
}

#[derive(Debug)]
enum Known {
    /// One conversation of these roles was seen. Most of them come once only.
    Once,
    /// `is_checked`: a conversation with this skeleton was searched, and its answers were where the skeleton says.
    Skeleton { skeleton: Skeleton, is_checked: bool },
    /// The format has none for these roles.
    None,
}

impl Skeletons {
    /// The parts of each learned answer of a conversation, where a skeleton says them; `marks` are those of the format.
    pub(crate) fn answers(&self, messages: &[Message], text: &str, marks: &[Range<usize>]) -> Option<Vec<Parts>> {
        match self.known.borrow().get(&roles_of(messages))? {
            Known::Skeleton {
                skeleton,
                is_checked: true,
            } => skeleton.answers(messages, text, marks),
            _ => None,
        }
    }

    /// Learns from a conversation that was searched for its answers.
    pub(crate) fn see(
        &self,
        format: &dyn ChatFormat,
        messages: &[Message],
        text: &str,
        marks: &[Range<usize>],
        answers: &[Parts],
    ) {
        let mut known = self.known.borrow_mut();
        let roles = roles_of(messages);
        let has_room = known.len() < MAX_LAYOUTS;
        let state = match known.get_mut(&roles) {
            Some(state) => state,
            None if has_room => {
                known.insert(roles, Known::Once);
                return;
            }
            None => return,
        };
        if matches!(state, Known::Once) {
            *state = match Skeleton::of(format, messages) {
                Some(skeleton) => Known::Skeleton {
                    skeleton,
                    is_checked: false,
                },
                None => Known::None,
            };
        }
        let Known::Skeleton { skeleton, is_checked } = state else {
            return;
        };
        match skeleton.answers(messages, text, marks) {
            Some(found) if found == answers => *is_checked = true,
            Some(_) => *state = Known::None,
            None => {}
        }
    }
}

fn roles_of(messages: &[Message]) -> Roles {
    messages
        .iter()
        .map(|message| (message.role, message.is_learned))
        .collect()
}

/// A place in one of the texts around the messages.
#[derive(Debug, Clone, Copy)]
struct Place {
    around: usize,
    byte: usize,
}

/// The text of a conversation without what is said in it.
#[derive(Debug)]
struct Skeleton {
    /// The texts before each written message, and after the last one.
    around: Vec<String>,
    /// The messages that are written, in the order of the text.
    written: Vec<usize>,
    /// Where the parts of each learned answer begin and end.
    answers: Vec<Vec<[Place; 2]>>,
    /// Where the marks of the format begin and end.
    marks: Vec<[Place; 2]>,
}

impl Skeleton {
    /// That of conversations with these roles, learned from one whose messages are words that nothing else has; `None` where the format
    /// refuses it, writes a word twice, or loses an answer.
    fn of(format: &dyn ChatFormat, messages: &[Message]) -> Option<Self> {
        let words: Vec<String> = (0..messages.len()).map(|index| format!("zq{index}qz")).collect();
        let said = messages.iter().zip(&words).map(|(message, word)| Message {
            content: word.clone(),
            ..message.clone()
        });
        let said: Vec<Message> = said.collect();
        let (text, marks) = format.marked(&said, &[]).ok()?;
        let rendered = Rendered {
            format,
            messages: &said,
            tools: &[],
            text: &text,
        };
        let answers = rendered.answers(&marks).ok()?;
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            let mut found = text.match_indices(word.as_str());
            places.extend(found.next().map(|(at, _)| (at, index)));
            if found.next().is_some() {
                return None;
            }
        }
        places.sort_unstable();
        let (mut around, mut starts) = (
            Vec::with_capacity(places.len() + 1),
            Vec::with_capacity(places.len() + 1),
        );
        let mut from = 0;
        for (at, index) in &places {
            around.push(text[from..*at].to_owned());
            starts.push(from);
            from = at + words[*index].len();
        }
        around.push(text[from..].to_owned());
        starts.push(from);
        let place = |byte: usize| {
            let found = starts.iter().zip(&around).position(|(start, around)| {
                let around = *start..=start + around.len();
                around.contains(&byte)
            });
            let around = found?;
            Some(Place {
                around,
                byte: byte - starts[around],
            })
        };
        let ends = |range: &Range<usize>| Some([place(range.start)?, place(range.end)?]);
        Some(Self {
            written: places.into_iter().map(|(_, index)| index).collect(),
            answers: answers
                .iter()
                .map(|parts| parts.iter().map(ends).collect())
                .collect::<Option<_>>()?,
            marks: marks.iter().map(ends).collect::<Option<_>>()?,
            around,
        })
    }

    /// The parts of each learned answer of a conversation, if its text is this skeleton with its messages. Templates write them as they
    /// are, or without white space around them.
    fn answers(&self, messages: &[Message], text: &str, marks: &[Range<usize>]) -> Option<Vec<Parts>> {
        let is_trimmed = |message: &Message| message.content.trim().len() == message.content.len();
        // Where the white space around an answer belongs is known only by searching for it.
        if !messages
            .iter()
            .all(|message| !message.is_learned || is_trimmed(message))
        {
            return None;
        }
        let given = self.starts(text, |index| &messages[index].content);
        let starts = given.or_else(|| self.starts(text, |index| messages[index].content.trim()))?;
        let byte = |place: Place| starts[place.around] + place.byte;
        let range = |[start, end]: &[Place; 2]| byte(*start)..byte(*end);
        if !self.marks.iter().map(range).eq(marks.iter().cloned()) {
            return None;
        }
        Some(
            self.answers
                .iter()
                .map(|parts| parts.iter().map(range).collect())
                .collect(),
        )
    }

    /// Where each of the texts around the messages begins; `None` where the whole text is another one.
    fn starts<'a>(&self, text: &str, said: impl Fn(usize) -> &'a str) -> Option<Vec<usize>> {
        let mut rest = text;
        let mut starts = Vec::with_capacity(self.around.len());
        for (place, around) in self.around.iter().enumerate() {
            starts.push(text.len() - rest.len());
            rest = rest.strip_prefix(around.as_str())?;
            if let Some(index) = self.written.get(place) {
                rest = rest.strip_prefix(said(*index))?;
            }
        }
        rest.is_empty().then_some(starts)
    }
}
