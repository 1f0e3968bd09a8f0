use taal_store::{Error, FileFormat, read_text};

use crate::scratch;

fn utf16(text: &str, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

fn utf32(text: &str, unit: impl Fn(u32) -> [u8; 4]) -> Vec<u8> {
    text.chars().flat_map(|character| unit(character.into())).collect()
}

/// A zip archive's first entry.
fn zipped(name: &str, content: &str) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.extend([0; 22]);
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(name.as_bytes());
    bytes.extend(content.as_bytes());
    bytes
}

fn safetensors(header_bytes: u64) -> Vec<u8> {
    let mut bytes = header_bytes.to_le_bytes().to_vec();
    bytes.extend(br#"{"weight":{"dtype":"F32"#);
    bytes
}

#[test]
fn report_13_files_are_recognized_by_their_first_bytes() {
    let text = "Het is één regel,\r\nen nog één.\n";
    let tar = [vec![b'a'; 257], b"ustar\0".to_vec(), vec![0; 100]].concat();
    let cases: Vec<(Vec<u8>, FileFormat)> = vec![
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec(),
            FileFormat::GitLfsPointer,
        ),
        (b"\n <!DOCTYPE html>\n<html>".to_vec(), FileFormat::Html),
        (b"\xef\xbb\xbf<HTML lang=nl>".to_vec(), FileFormat::Html),
        (b"<?xml version='1.0'?>\n<html xmlns=''>".to_vec(), FileFormat::Html),
        (utf16(&format!("\u{feff}{text}"), u16::to_le_bytes), FileFormat::Utf16),
        (utf16(&format!("\u{feff}{text}"), u16::to_be_bytes), FileFormat::Utf16),
        (utf16(text, u16::to_le_bytes), FileFormat::Utf16),
        (utf16(text, u16::to_be_bytes), FileFormat::Utf16),
        (utf32(&format!("\u{feff}{text}"), u32::to_le_bytes), FileFormat::Utf32),
        (utf32(&format!("\u{feff}{text}"), u32::to_be_bytes), FileFormat::Utf32),
        (utf32(text, u32::to_le_bytes), FileFormat::Utf32),
        (utf32(text, u32::to_be_bytes), FileFormat::Utf32),
        (b"\x1f\x8b\x08\0".to_vec(), FileFormat::Gzip),
        (b"\x28\xb5\x2f\xfd".to_vec(), FileFormat::Zstd),
        (b"\xfd7zXZ\0".to_vec(), FileFormat::Xz),
        (b"BZh91AY".to_vec(), FileFormat::Bzip2),
        (tar, FileFormat::Tar),
        (zipped("readme.txt", "x"), FileFormat::Zip),
        (zipped("[Content_Types].xml", "...word/document.xml"), FileFormat::Docx),
        (zipped("[Content_Types].xml", "...xl/workbook.xml"), FileFormat::Xlsx),
        (
            zipped("[Content_Types].xml", "...ppt/presentation.xml"),
            FileFormat::Pptx,
        ),
        (
            zipped("mimetype", "application/vnd.oasis.opendocument.text"),
            FileFormat::OpenDocument,
        ),
        (zipped("mimetype", "application/epub+zip"), FileFormat::Epub),
        (zipped("arr_0.npy", "x"), FileFormat::Npz),
        (zipped("archive/data.pkl", "x"), FileFormat::PyTorch),
        (b"%PDF-1.7".to_vec(), FileFormat::Pdf),
        (b"{\\rtf1\\ansi".to_vec(), FileFormat::Rtf),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec(), FileFormat::OldOffice),
        (b"PAR1".to_vec(), FileFormat::Parquet),
        (b"\x80\x02\x8a\x0a".to_vec(), FileFormat::Pickle),
        (b"\x80\x04\x95".to_vec(), FileFormat::Pickle),
        (safetensors(64), FileFormat::Safetensors),
        (b"GGUF\x03\0\0\0".to_vec(), FileFormat::Gguf),
        (b" {\n  \"a\": 1}".to_vec(), FileFormat::Json),
        (b"[{\"a\": 1}]".to_vec(), FileFormat::Json),
        (b"\x89PNG\r\n\x1a\n".to_vec(), FileFormat::Png),
        (b"\xff\xd8\xff\xe0".to_vec(), FileFormat::Jpeg),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            FileFormat::of(&bytes),
            Some(expected),
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
        assert!(!expected.in_place_of("the model").contains("  "));
    }
}

#[test]
fn a_safetensors_header_whose_length_looks_like_another_format_is_recognized() {
    // The first bytes of gzip, of UTF-16, of a pickle and of a zip archive.
    for length in [0x8b1f, 0xfeff, 0x0280, 0x0403_4b50] {
        assert_eq!(
            FileFormat::of(&safetensors(length)),
            Some(FileFormat::Safetensors),
            "{length:x}"
        );
    }
}

#[test]
fn texts_and_numbers_are_not_mistaken_for_another_format() {
    let numbers = [64_i32, 172, 5, 8, 4, 512, 512]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect::<Vec<u8>>();
    let token_ids = (0..64_u16).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let texts = [
        "",
        "a",
        "ab",
        "Een zin.\n",
        "[CLS] woord",
        "[1] Een noot",
        "{ wat? }",
        "BZh is geen bestand",
        "\u{feff}Een zin.",
        "< 5 euro",
        "日本語のテキスト",
        "版本 https",
    ];
    for bytes in texts
        .map(str::as_bytes)
        .into_iter()
        .chain([&numbers[..], &token_ids, &[0; 64]])
    {
        assert_eq!(FileFormat::of(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn report_13_a_text_in_utf16_is_refused_with_a_conversion_command() {
    let dir = scratch();
    let path = dir.path().join("config.json");
    std::fs::write(&path, utf16("\u{feff}{\"a\": 1}", u16::to_le_bytes)).expect("a file");
    let error = read_text(&path, 100).expect_err("not UTF-8");
    assert!(
        matches!(&error, Error::Corrupt { detail, .. } if detail.contains("iconv -f UTF-16")),
        "{error}"
    );
    assert_eq!(FileFormat::of_file(&path).expect("a format"), Some(FileFormat::Utf16));
}
