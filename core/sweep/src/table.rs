//! `metrics.parquet`: one row per arm, base (if there are bases), seed, iteration and metric.

use std::path::Path;
use std::sync::Arc;

use isr_run::store::write_atomic;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::error::SweepError;
use crate::results::Results;

/// Columns of a sweep without bases.
const COLUMNS: &str = "message metrics {
    required binary arm (utf8);
    required int64 seed (integer(64, false));
    required int32 iteration;
    required binary metric (utf8);
    required double value;
}";

/// The column that a sweep with bases has after `arm`.
const BASE: &str = "    required binary base (utf8);\n";

/// Columns of the table.
#[derive(Default)]
struct Rows {
    arm: Vec<ByteArray>,
    /// Empty without bases.
    base: Vec<ByteArray>,
    seed: Vec<i64>,
    iteration: Vec<i32>,
    metric: Vec<ByteArray>,
    value: Vec<f64>,
}

pub(crate) fn write(results: &Results, path: &Path) -> Result<(), SweepError> {
    let mut rows = Rows::default();
    for arm in &results.arms {
        for (metric, points) in &arm.metrics {
            for point in points {
                for (base, seed, value) in point.cells() {
                    rows.arm.push(arm.name.as_str().into());
                    rows.base.extend(base.map(ByteArray::from));
                    // The schema marks the column as unsigned.
                    rows.seed.push(seed.cast_signed());
                    rows.iteration.push(point.iteration.cast_signed());
                    rows.metric.push(metric.as_str().into());
                    rows.value.push(value);
                }
            }
        }
    }
    let bytes = rows
        .encode(!results.bases.is_empty())
        .map_err(|source| SweepError::Parquet { path: path.to_owned(), source })?;
    Ok(write_atomic(path, &bytes)?)
}

impl Rows {
    fn encode(&self, with_bases: bool) -> ParquetResult<Vec<u8>> {
        let columns = match with_bases {
            true => {
                COLUMNS.replacen("    required int64 seed", &format!("{BASE}    required int64 seed"), 1)
            }
            false => COLUMNS.to_owned(),
        };
        let schema = Arc::new(parse_message_type(&columns)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        column::<ByteArrayType>(&mut group, &self.arm)?;
        if with_bases {
            column::<ByteArrayType>(&mut group, &self.base)?;
        }
        column::<Int64Type>(&mut group, &self.seed)?;
        column::<Int32Type>(&mut group, &self.iteration)?;
        column::<ByteArrayType>(&mut group, &self.metric)?;
        column::<DoubleType>(&mut group, &self.value)?;
        group.close()?;
        writer.into_inner()
    }
}

fn column<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
) -> ParquetResult<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    Ok(())
}
