//! The header of a GGUF file: pairs and tensors enter, bytes leave. See [`super::gguf`] for the format.

use super::gguf::{Array, Metadata, Value};
use super::{Header, TensorInfo};

/// Where tensor data begin: at multiples of this.
pub const ALIGNMENT: u64 = 32;

/// The tensors with their places, and the bytes before the first: pad after each tensor to [`ALIGNMENT`].
///
/// `tensors` are placed one after another in their order; what offsets they had does not matter. Integers are
/// written in 32 bits where they fit, as readers expect them.
#[must_use]
pub fn header(file: &str, metadata: Metadata, mut tensors: Vec<TensorInfo>) -> (Header, Vec<u8>) {
    let mut bytes = Vec::new();
    bytes.extend(b"GGUF");
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        string(key, &mut bytes);
        pair_value(value, &mut bytes);
    }
    let mut offset = 0;
    for tensor in &mut tensors {
        string(&tensor.name, &mut bytes);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            bytes.extend(dim.to_le_bytes());
        }
        bytes.extend(tensor.dtype.gguf_number().to_le_bytes());
        bytes.extend(u64::to_le_bytes(offset));
        tensor.offset = offset;
        offset = tensor.end().next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    let header_bytes = bytes.len() as u64;
    for tensor in &mut tensors {
        tensor.offset += header_bytes;
    }
    let data_end = tensors.last().map_or(header_bytes, TensorInfo::end);
    (Header { file: file.to_owned(), tensors, metadata, header_bytes, data_end }, bytes)
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type's number, then the value.
fn pair_value(value: &Value, out: &mut Vec<u8>) {
    let mut plain = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Uint(value) => match u32::try_from(*value) {
            Ok(value) => plain(4, &value.to_le_bytes()),
            Err(_) => plain(10, &value.to_le_bytes()),
        },
        Value::Int(value) => match i32::try_from(*value) {
            Ok(value) => plain(5, &value.to_le_bytes()),
            Err(_) => plain(11, &value.to_le_bytes()),
        },
        Value::F32(value) => plain(6, &value.to_le_bytes()),
        Value::F64(value) => plain(12, &value.to_le_bytes()),
        Value::Bool(value) => plain(7, &[u8::from(*value)]),
        Value::Str(text) => {
            plain(8, &[]);
            string(text, out);
        }
        Value::Array(array) => {
            plain(9, &[]);
            elements(array, out);
        }
    }
}

/// The type's number, how many, and they.
fn elements(array: &Array, out: &mut Vec<u8>) {
    let mut begin = |kind: u32| {
        out.extend(kind.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    match array {
        Array::U8(items) => {
            begin(0);
            out.extend(items);
        }
        Array::I32(items) => {
            begin(5);
            out.extend(items.iter().flat_map(|item| item.to_le_bytes()));
        }
        // What came as unsigned 32 bits.
        Array::I64(items) if items.iter().all(|item| u32::try_from(*item).is_ok()) => {
            begin(4);
            out.extend(items.iter().flat_map(|item| (*item as u32).to_le_bytes()));
        }
        Array::I64(items) => {
            begin(11);
            out.extend(items.iter().flat_map(|item| item.to_le_bytes()));
        }
        Array::U64(items) => {
            begin(10);
            out.extend(items.iter().flat_map(|item| item.to_le_bytes()));
        }
        Array::F32(items) => {
            begin(6);
            out.extend(items.iter().flat_map(|item| item.to_le_bytes()));
        }
        Array::F64(items) => {
            begin(12);
            out.extend(items.iter().flat_map(|item| item.to_le_bytes()));
        }
        Array::Bool(items) => {
            begin(7);
            out.extend(items.iter().map(|item| u8::from(*item)));
        }
        Array::Str(items) => {
            begin(8);
            for item in items {
                string(item, out);
            }
        }
        Array::Nested(items) => {
            begin(9);
            for item in items {
                elements(item, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dtype, Progress, parse_header};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut metadata = Metadata::empty("file");
        let pairs: [(&str, Value); 14] = [
            ("general.architecture", Value::Str("llama".into())),
            ("a", Value::Uint(7)),
            ("b", Value::Uint(1 << 40)),
            ("c", Value::Int(-7)),
            ("d", Value::Int(-1 << 40)),
            ("e", Value::F32(0.1)),
            ("f", Value::F64(0.1)),
            ("g", Value::Bool(true)),
            ("h", Value::Array(Array::Str(vec!["é".into(), String::new()]))),
            ("i", Value::Array(Array::F32(vec![1.5, -2.0]))),
            ("j", Value::Array(Array::I32(vec![-1, 2]))),
            ("k", Value::Array(Array::I64(vec![1, 0xffff_ffff]))),
            ("l", Value::Array(Array::I64(vec![-1, 1 << 40]))),
            ("m", Value::Array(Array::Nested(vec![Array::U8(vec![1, 2, 3]), Array::Bool(vec![true])]))),
        ];
        for (key, value) in pairs {
            metadata.insert(key, value);
        }
        let tensor = |name: &str, dtype: Dtype, shape: &[u64], bytes| TensorInfo {
            name: name.into(),
            dtype,
            shape: shape.into(),
            offset: 0,
            bytes,
        };
        let tensors = vec![tensor("norm", Dtype::F32, &[5], 20), tensor("matrix", Dtype::Q4_0, &[3, 64], 3 * 2 * 18)];
        let (header, bytes) = header("file", metadata, tensors);
        assert_eq!(header.data_end, header.header_bytes + 32 + 108);
        assert_eq!(bytes.len() as u64, header.header_bytes);
        match parse_header("file", &bytes, Some(header.data_end)) {
            Ok(Progress::Done(found)) => assert_eq!(found, header),
            other => panic!("{other:?}"),
        }
    }
}
