//! Parquet files of examples: read as the same rows of JSON Lines, or refused by file, column and row.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use taal_data::{
    ChatFormat, Columns, ConversationOptions, Conversations, Layout, LineEnds, has_conversations, tokenizer_texts,
};
use taal_store::ErrorKind;
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::ChatFiles;

use super::{assert_says, characters, write};

fn tokenizer() -> Tokenizer {
    characters("abcdefghijklmnopqrstuvwxyzSUAT0123456789 ?!:,{}[]\"\n")
}

fn options() -> ConversationOptions {
    ConversationOptions {
        validation_fraction: 0.0,
        ..ConversationOptions::default()
    }
}

fn open_with(name: &str, content: &[u8], options: &ConversationOptions) -> taal_data::Result<Conversations> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), name, content);
    Conversations::open_with(&tokenizer(), &[path], 64, options)
}

fn open(content: &[u8]) -> taal_data::Result<Conversations> {
    open_with("a.parquet", content, &options())
}

/// The values of one column in one row group, with their definition and repetition levels.
enum Column {
    Texts(Vec<String>, Vec<i16>, Vec<i16>),
    Numbers(Vec<i32>),
    /// A required column of bytes.
    Bytes(Vec<&'static [u8]>),
}

/// A column of texts that may be `None`.
fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Column {
    let values: Vec<Option<&str>> = values.into_iter().collect();
    let levels = values.iter().map(|value| i16::from(value.is_some())).collect();
    let known = values.iter().flatten().map(|text| (*text).to_owned()).collect();
    Column::Texts(known, levels, vec![0; values.len()])
}

fn file(schema: &str, properties: WriterPropertiesBuilder, groups: Vec<Vec<Column>>) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut to = group.next_column().unwrap().unwrap();
            match column {
                Column::Texts(values, definitions, repetitions) => {
                    let values: Vec<ByteArray> = values.iter().map(|text| text.as_str().into()).collect();
                    let to = to.typed::<ByteArrayType>();
                    to.write_batch(&values, Some(&definitions), Some(&repetitions)).unwrap();
                }
                Column::Bytes(values) => {
                    let values: Vec<ByteArray> = values.iter().map(|bytes| bytes.to_vec().into()).collect();
                    to.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
                Column::Numbers(values) => {
                    to.typed::<Int32Type>().write_batch(&values, None, None).unwrap();
                }
            }
            to.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

const PAIRS: &str = "message rows { optional binary prompt (STRING); optional binary completion (STRING); }";

/// As Python's libraries write lists of messages.
const MESSAGES: &str = "message rows { required int32 number; optional group messages (LIST) { repeated group list {
    optional group element { optional binary role (STRING); optional binary content (STRING); } } } }";

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

/// A row group of conversations; a message is a role and what it says, if it says something.
fn conversations(rows: &[&[(&str, Option<&str>)]]) -> Vec<Column> {
    let (mut roles, mut contents, mut roles_levels, mut contents_levels, mut repetitions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        for (index, (role, content)) in row.iter().enumerate() {
            roles.push((*role).to_owned());
            contents.extend(content.map(ToOwned::to_owned));
            roles_levels.push(4);
            contents_levels.push(3 + i16::from(content.is_some()));
            repetitions.push(i16::from(index > 0));
        }
        if row.is_empty() {
            // A list without elements.
            roles_levels.push(1);
            contents_levels.push(1);
            repetitions.push(0);
        }
    }
    vec![
        Column::Numbers((0..rows.len() as i32).collect()),
        Column::Texts(roles, roles_levels, repetitions.clone()),
        Column::Texts(contents, contents_levels, repetitions),
    ]
}

/// Ids and learned positions of all examples.
fn trained(conversations: &Conversations) -> Vec<(u64, Vec<u32>, Vec<std::ops::Range<usize>>)> {
    let examples = conversations.train.first(usize::MAX).into_iter();
    examples
        .map(|example| (example.line, example.ids, example.learned))
        .collect()
}

#[test]
fn lists_of_messages_in_several_row_groups_are_the_rows_of_their_twin_in_json_lines() {
    let groups = vec![
        conversations(&[
            &[("user", Some("hoi?")), ("assistant", Some("dag"))],
            &[("user", Some("en?")), ("assistant", Some("nee"))],
        ]),
        conversations(&[]),
        conversations(&[&[
            ("system", Some("kort")),
            ("user", Some("wat?")),
            ("assistant", Some("niks")),
        ]]),
    ];
    let content = file(MESSAGES, properties().set_compression(Compression::SNAPPY), groups);
    let found = open(&content).unwrap();
    let said = |role: &str, content: &str| format!("{{\"role\": {role:?}, \"content\": {content:?}}}");
    let row = |messages: &[String]| format!("{{\"messages\": [{}]}}\n", messages.join(", "));
    let lines = [
        row(&[said("user", "hoi?"), said("assistant", "dag")]),
        row(&[said("user", "en?"), said("assistant", "nee")]),
        row(&[said("system", "kort"), said("user", "wat?"), said("assistant", "niks")]),
    ];
    let twin = open_with("a.jsonl", lines.concat().as_bytes(), &options()).unwrap();
    assert_eq!(trained(&found), trained(&twin));
    assert_eq!(found.counts.layouts[0].1, Layout::Messages);

    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.parquet", &content);
    assert!(has_conversations(&path).unwrap());
    let returns = std::cell::Cell::new(0);
    let files = [path];
    let texts = tokenizer_texts(&files, LineEnds::Lf, &returns).unwrap();
    let texts: Vec<String> = texts.map(|part| part.unwrap().text).collect();
    assert_eq!(texts[1], "en?\nnee");
    assert_eq!(texts.len(), 3);
    // A folder is searched for them too.
    let found = Conversations::open_with(&tokenizer(), &[dir.path().to_owned()], 64, &options()).unwrap();
    assert_eq!(found.counts.examples, 3);
}

#[test]
fn tools_are_read_in_the_order_of_the_schema_without_the_keys_that_other_tools_have() {
    let source =
        "{% for t in tools or [] %}{{ t | tojson }}:{% endfor %}{% for m in messages %}{{ m.content }}:{% endfor %}";
    let format: Arc<dyn ChatFormat> = Arc::new(ChatFiles::new(source).template().unwrap());
    let options = ConversationOptions {
        format: Some(format),
        ..options()
    };
    let said: &[(&str, Option<&str>)] = &[("user", Some("hoi?")), ("assistant", Some("dag"))];
    let messages = |tools: Vec<Column>| vec![conversations(&[said]).into_iter().chain(tools).collect()];
    let twin = "{\"messages\": [{\"role\": \"user\", \"content\": \"hoi?\"}, {\"role\": \"assistant\", \"content\": \"dag\"}], \
                \"tools\": [{\"type\": \"f\", \"name\": \"weer\"}]}\n";
    let twin = trained(&open_with("a.jsonl", twin.as_bytes(), &options).unwrap());
    let schema = |tools: &str| format!("{} {tools} }}", MESSAGES.strip_suffix('}').unwrap());

    let structs = schema(
        "optional group tools (LIST) { repeated group list { optional group element { optional binary type (STRING);
         optional binary name (STRING); optional binary strict (STRING); } } }",
    );
    let field = |value: Option<&str>| {
        let level = 3 + i16::from(value.is_some());
        Column::Texts(value.map(ToOwned::to_owned).into_iter().collect(), vec![level], vec![0])
    };
    let columns = vec![field(Some("f")), field(Some("weer")), field(None)];
    let found = open_with("a.parquet", &file(&structs, properties(), messages(columns)), &options).unwrap();
    assert_eq!(trained(&found), twin);
    assert_eq!(found.counts.notes, ["1 key of rows is not used: `number`"]);

    let text = schema("optional binary tools (STRING);");
    let columns = vec![texts([Some("[{\"type\": \"f\", \"name\": \"weer\"}]")])];
    let found = open_with("a.parquet", &file(&text, properties(), messages(columns)), &options).unwrap();
    assert_eq!(trained(&found), twin);
}

#[test]
fn every_encoding_page_version_and_known_compression_gives_the_same_rows() {
    let asked: Vec<String> = (0..300).map(|index| format!("vraag {}?", index % 7)).collect();
    let said: Vec<String> = (0..300).map(|index| format!("{}", index * index)).collect();
    let pairs = |range: std::ops::Range<usize>| {
        let [asked, said] =
            [&asked, &said].map(|texts_of| texts(texts_of[range.clone()].iter().map(|text| Some(text.as_str()))));
        vec![asked, said]
    };
    let lines: String = asked
        .iter()
        .zip(&said)
        .map(|(asked, said)| format!("{{\"question\": {asked:?}, \"answer\": {said:?}}}\n"))
        .collect();
    let mapped = ConversationOptions {
        columns: Columns {
            prompt: Some("question".to_owned()),
            completion: Some("answer".to_owned()),
            ..Columns::default()
        },
        ..options()
    };
    let twin = trained(&open_with("a.jsonl", lines.as_bytes(), &mapped).unwrap());
    assert_eq!(twin.len(), 300);
    let schema = PAIRS.replace("prompt", "question").replace("completion", "answer");
    let small_pages = properties().set_data_page_row_count_limit(50).set_write_batch_size(10);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (what, properties) in [
        ("dictionary", small_pages.clone().set_compression(zstd)),
        (
            "second version",
            small_pages
                .clone()
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_compression(zstd),
        ),
        (
            "full dictionary",
            small_pages.clone().set_dictionary_page_size_limit(64),
        ),
        (
            "plain",
            properties()
                .set_dictionary_enabled(false)
                .set_compression(Compression::SNAPPY),
        ),
        (
            "delta",
            properties()
                .set_dictionary_enabled(false)
                .set_encoding(parquet::basic::Encoding::DELTA_BYTE_ARRAY),
        ),
        (
            "lengths",
            properties()
                .set_dictionary_enabled(false)
                .set_encoding(parquet::basic::Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ),
    ] {
        let content = file(
            &schema,
            properties,
            vec![pairs(0..120), pairs(120..121), pairs(121..300)],
        );
        let found = open_with("a.parquet", &content, &mapped).unwrap();
        assert!(trained(&found) == twin, "{what}");
    }
}

#[test]
fn nulls_and_wrong_nesting_are_refused_by_file_column_and_row() {
    let groups = vec![
        vec![texts([Some("a"), Some("b")]), texts([Some("c"), Some("d")])],
        vec![texts([None]), texts([Some("e")])],
    ];
    let error = open(&file(PAIRS, properties(), groups)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_says::<()>(Err(error), &["a.parquet, row 3", "`prompt` is null"]);
    let empty = vec![vec![texts([Some("a")]), texts([Some("")])]];
    assert_says(
        open(&file(PAIRS, properties(), empty)),
        &["a.parquet, row 1", "`completion` is empty"],
    );

    let hoi: &[(&str, Option<&str>)] = &[("user", Some("hoi?")), ("assistant", Some("dag"))];
    let content = file(
        MESSAGES,
        properties(),
        vec![conversations(&[hoi, &[("user", None), ("assistant", Some("dag"))]])],
    );
    assert_says(
        open(&content),
        &["a.parquet, row 2", "`messages[0]`", "`content`", "null"],
    );
    let content = file(MESSAGES, properties(), vec![conversations(&[hoi, &[]])]);
    assert_says(open(&content), &["a.parquet, row 2", "no message of the assistant"]);

    let nested = "message rows { optional group messages (LIST) { repeated group list { optional group element (LIST) {
        repeated group list { optional binary element (STRING); } } } } }";
    let column = Column::Texts(vec!["a".to_owned()], vec![5], vec![0]);
    assert_says(
        open(&file(nested, properties(), vec![vec![column]])),
        &["a.parquet, row 1", "`messages[0]`", "found a list"],
    );
    // Other columns are not decoded, and named where no layout fits.
    let other = "message rows { optional binary title (STRING); optional binary completions (STRING); }";
    let column = || texts([Some("a")]);
    assert_says(
        open(&file(other, properties(), vec![vec![column(), column()]])),
        &["a.parquet, row 1", "title", "completions", "data.prompt_column"],
    );
    assert_says(open(&file(PAIRS, properties(), vec![])), &["a.parquet is empty"]);
}

#[test]
fn damage_is_named_by_its_column_or_refused_with_the_file() {
    let rows = || {
        let texts_of =
            |mark: &str| -> Vec<String> { (0..400).map(|index| format!("{mark}{}", index * 7919)).collect() };
        let [asked, said] = [texts_of("vraag "), texts_of("zeg ")];
        let [asked, said] = [&asked, &said].map(|all| texts(all.iter().map(|text| Some(text.as_str()))));
        vec![vec![asked, said]]
    };
    let zstd = properties()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false);
    let whole = file(PAIRS, zstd, rows());
    assert_eq!(open(&whole).unwrap().counts.examples, 400);
    // The second column is in the second half of the file.
    let mut damaged = whole.clone();
    let middle = whole.len() * 6 / 10;
    damaged[middle..middle + 40].fill(0xff);
    assert_says(
        open(&damaged),
        &["a.parquet, row ", "column `completion` cannot be read"],
    );

    for len in [0, 3, 4, 11, whole.len() / 2, whole.len() - 1] {
        assert_says(open(&whole[..len]), &["a.parquet"]);
    }
    assert_says(
        open(b"{\"prompt\": \"a\", \"completion\": \"b\"}\n"),
        &["a.parquet is not a whole Parquet file"],
    );
}

#[test]
fn files_of_pyarrow_are_read_or_refused_by_their_column() {
    let golden = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/parquet")
            .join(name);
        Conversations::open_with(&tokenizer(), &[path], 64, &options())
    };
    let messages = golden("messages.parquet").unwrap();
    assert_eq!(messages.counts.roles["assistant"].messages, 3);
    assert_eq!(
        (messages.counts.examples, messages.counts.layouts[0].1),
        (3, Layout::Messages)
    );
    let lines: String = (0..300)
        .map(|index| {
            format!(
                "{{\"prompt\": \"vraag {}?\", \"completion\": {:?}}}\n",
                ["a", "b", "c"][index % 3],
                &"janee"[..1 + index % 5]
            )
        })
        .collect();
    let twin = trained(&open_with("a.jsonl", lines.as_bytes(), &options()).unwrap());
    for name in ["pairs.parquet", "plain.parquet"] {
        assert!(trained(&golden(name).unwrap()) == twin, "{name}");
    }
    assert_says(golden("gzip.parquet"), &["gzip.parquet", "GZIP", "`prompt`", "zstd"]);
    assert_eq!(golden("other-gzip.parquet").unwrap().counts.examples, 1);
}

#[test]
fn bytes_that_are_no_text_are_told_of_the_column_that_has_them_and_two_columns_need_two_names() {
    let schema = "message rows { optional binary prompt (STRING); required binary completion; }";
    let bytes = |second: &'static [u8]| {
        let columns = vec![texts([Some("hoi?"), Some("en?")]), Column::Bytes(vec![b"ja", second])];
        file(schema, properties(), vec![columns])
    };
    assert_eq!(open(&bytes(b"nee")).unwrap().counts.examples, 2);
    assert_says(
        open(&bytes(b"\xff\xfe")),
        &["a.parquet, row 2", "column `completion` has bytes that are not UTF-8"],
    );
    let twice = "message rows { required binary prompt; required binary completion; required binary completion; }";
    let column = |text: &'static [u8]| Column::Bytes(vec![text]);
    let columns = vec![column(b"hoi?"), column(b"ja"), column(b"nee")];
    assert_says(
        open(&file(twice, properties(), vec![columns])),
        &["a.parquet", "two columns that are named \"completion\""],
    );
}
