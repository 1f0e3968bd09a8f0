//! The special tokens that a tokenizer puts around a text, read from the post-processor of its file.

use serde_json::{Map, Value, json};

/// The special tokens before and after a text, such as `[CLS]` and `[SEP]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Ids before the text.
    pub before: Vec<u32>,
    /// Ids after the text.
    pub after: Vec<u32>,
}

impl Frame {
    /// The number of ids it adds to a text.
    pub fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Whether it adds no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of a text inside the frame.
    pub fn around(&self, ids: &[u32]) -> Vec<u32> {
        [self.before.as_slice(), ids, self.after.as_slice()].concat()
    }

    /// The post-processor of a `tokenizer.json` that puts these tokens around a text, and after the second of two.
    pub(crate) fn post_processor(&self, name: impl Fn(&u32) -> String) -> Value {
        let part = |token: String, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
        let text = |letter: &str, type_id: u32| json!({"Sequence": {"id": letter, "type_id": type_id}});
        let parts = |ids: &[u32], type_id| ids.iter().map(|id| part(name(id), type_id)).collect::<Vec<_>>();
        let single = [parts(&self.before, 0), vec![text("A", 0)], parts(&self.after, 0)].concat();
        let second = [vec![text("B", 1)], parts(&self.after, 1)].concat();
        let tokens = self.before.iter().chain(&self.after).map(|id| {
            let token = name(id);
            (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}))
        });
        let pair = [single.as_slice(), &second].concat();
        json!({
            "type": "TemplateProcessing",
            "pair": pair,
            "single": single,
            "special_tokens": tokens.collect::<Map<String, Value>>(),
        })
    }
}

/// The tokens that the post-processor of a `tokenizer.json` puts around a single text; `None` where the file has no post-processor.
pub(crate) fn of_post_processor(file: &Value) -> Option<Frame> {
    let post_processor = file.get("post_processor").filter(|value| !value.is_null())?;
    let mut frame = Frame::default();
    wrap(post_processor, &mut frame);
    Some(frame)
}

/// Adds the tokens of one post-processor around those of the previous ones.
fn wrap(post_processor: &Value, frame: &mut Frame) {
    let kind = post_processor.get("type").and_then(Value::as_str);
    let added = match kind {
        Some("Sequence") => {
            let steps = post_processor.get("processors").and_then(Value::as_array);
            steps.into_iter().flatten().for_each(|step| wrap(step, frame));
            return;
        }
        Some("TemplateProcessing") => of_template(post_processor),
        Some("BertProcessing" | "RobertaProcessing") => Frame {
            before: pair_id(post_processor, "cls"),
            after: pair_id(post_processor, "sep"),
        },
        // `ByteLevel` changes offsets only.
        _ => return,
    };
    frame.before.splice(0..0, added.before);
    frame.after.extend(added.after);
}

fn pair_id(post_processor: &Value, key: &str) -> Vec<u32> {
    let id = post_processor.get(key).and_then(|pair| pair.get(1));
    id.and_then(as_id).into_iter().collect()
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn of_template(post_processor: &Value) -> Frame {
    let mut frame = Frame::default();
    let mut is_after = false;
    let pieces = post_processor.get("single").and_then(Value::as_array);
    for piece in pieces.into_iter().flatten() {
        if piece.get("Sequence").is_some() {
            is_after = true;
            continue;
        }
        let name = piece.get("SpecialToken").and_then(|token| token.get("id"));
        let token = name.and_then(Value::as_str).and_then(|name| {
            let tokens = post_processor.get("special_tokens")?;
            tokens.get(name)?.get("ids")?.as_array()
        });
        let side = if is_after { &mut frame.after } else { &mut frame.before };
        side.extend(token.into_iter().flatten().filter_map(as_id));
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(before: &[u32], after: &[u32]) -> Option<Frame> {
        Some(Frame {
            before: before.to_vec(),
            after: after.to_vec(),
        })
    }

    fn template(before: &[(&str, u32)], after: &[(&str, u32)]) -> Value {
        let special = |(name, _): &(&str, u32)| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let mut single: Vec<Value> = before.iter().map(special).collect();
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        single.extend(after.iter().map(special));
        let tokens: serde_json::Map<String, Value> = before
            .iter()
            .chain(after)
            .map(|(name, id)| ((*name).to_owned(), json!({"id": name, "ids": [id], "tokens": [name]})))
            .collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens})
    }

    #[test]
    fn report_7_the_frame_is_that_of_any_type_of_post_processor() {
        let of = |post_processor: Value| of_post_processor(&json!({"post_processor": post_processor}));
        assert_eq!(of(Value::Null), None);
        assert_eq!(of_post_processor(&json!({})), None);
        assert_eq!(of(json!({"type": "ByteLevel"})), frame(&[], &[]));
        for kind in ["BertProcessing", "RobertaProcessing"] {
            let processing = json!({"type": kind, "sep": ["</s>", 2], "cls": ["<s>", 7]});
            assert_eq!(of(processing), frame(&[7], &[2]));
        }
        assert_eq!(of(template(&[("[CLS]", 3)], &[("[SEP]", 4)])), frame(&[3], &[4]));
        // XLNet's has both after the text, Qwen3-Embedding's has one.
        assert_eq!(of(template(&[], &[("<sep>", 4), ("<cls>", 3)])), frame(&[], &[4, 3]));
        // LLaMA 3's: a template after ByteLevel.
        let sequence = |processors: &[Value]| json!({"type": "Sequence", "processors": processors});
        let llama = sequence(&[json!({"type": "ByteLevel"}), template(&[("<|begin_of_text|>", 9)], &[])]);
        assert_eq!(of(llama), frame(&[9], &[]));
        let nested = sequence(&[template(&[("a", 1)], &[("b", 2)]), template(&[("c", 3)], &[("d", 4)])]);
        assert_eq!(of(nested), frame(&[3, 1], &[2, 4]));
    }
}
