"""Make the Parquet files of the data crate's tests, as Python's users write them.

Run from any folder: `python make_parquet.py` (needs pyarrow). All texts are made here.

- `messages.parquet`: a list of structs, dictionaries, several row groups, snappy (pyarrow's defaults);
- `pairs.parquet`: texts with a large dictionary and data pages of version 2, zstd, other columns of many kinds;
- `plain.parquet`: no dictionary, no compression, delta encodings;
- `gzip.parquet`: a compression that is not read, in a column that is needed;
- `other-gzip.parquet`: the same in a column that is not needed.
"""

import datetime
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).parent


def write(name, table, **options):
    pq.write_table(pa.table(table), FOLDER / f"{name}.parquet", **options)


def said(role, content):
    return {"role": role, "content": content}


if __name__ == "__main__":
    chats = [[said("user", "hoi?"), said("assistant", "ja")], [said("user", "en?"), said("assistant", "nee")],
             [said("system", "kort"), said("user", "wat?"), said("assistant", "niks")]]
    write("messages", {"messages": chats}, row_group_size=2)
    prompts, completions = [f"vraag {'abc'[i % 3]}?" for i in range(300)], ["janee"[: 1 + i % 5] for i in range(300)]
    others = {"day": [datetime.date(2026, 1, 1)] * 300, "score": [0.5] * 300, "count": pa.array([7] * 300, pa.uint8()),
              "tags": [["a", None]] * 300, "more": [{"x": 1}] * 300}
    write("pairs", {"prompt": prompts, "completion": completions, **others}, compression="zstd", data_page_version="2.0",
          row_group_size=128)
    write("plain", {"prompt": prompts, "completion": completions}, compression="none", use_dictionary=False,
          column_encoding={"prompt": "DELTA_BYTE_ARRAY", "completion": "DELTA_LENGTH_BYTE_ARRAY"})
    write("gzip", {"prompt": ["a"], "completion": ["b"]}, compression={"prompt": "gzip", "completion": "snappy"})
    write("other-gzip", {"prompt": ["a"], "completion": ["b"], "more": ["c"]},
          compression={"prompt": "snappy", "completion": "snappy", "more": "gzip"})
