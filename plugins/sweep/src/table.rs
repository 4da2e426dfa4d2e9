//! `metrics.parquet`: one row for each arm, seed, iteration and metric.

use std::path::Path;
use std::sync::Arc;

use isr_core::store::write_atomic;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::error::SweepError;
use crate::results::Results;

const COLUMNS: &str = "message metrics {
    required binary arm (utf8);
    required int64 seed (integer(64, false));
    required int32 iteration;
    required binary metric (utf8);
    required double value;
}";

/// The columns.
#[derive(Default)]
struct Rows {
    arm: Vec<ByteArray>,
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
                for (&seed, &value) in &point.values {
                    rows.arm.push(arm.name.as_str().into());
                    // The column says that the bits are unsigned.
                    rows.seed.push(seed.cast_signed());
                    rows.iteration.push(point.iteration.cast_signed());
                    rows.metric.push(metric.as_str().into());
                    rows.value.push(value);
                }
            }
        }
    }
    let bytes = rows.encode().map_err(|source| SweepError::Parquet { path: path.to_owned(), source })?;
    Ok(write_atomic(path, &bytes)?)
}

impl Rows {
    fn encode(&self) -> ParquetResult<Vec<u8>> {
        let schema = Arc::new(parse_message_type(COLUMNS)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        column::<ByteArrayType>(&mut group, &self.arm)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, RowAccessor};

    use super::*;
    use crate::results::{ArmResult, Estimate, Point, SCHEMA};

    #[test]
    fn every_value_is_a_row_that_reads_back() {
        let point = |iteration, values: &[(u64, f64)]| Point {
            iteration,
            estimate: Estimate { mean: 0.0, interval: None, n: values.len() },
            difference: None,
            values: values.iter().copied().collect(),
        };
        let points = vec![point(0, &[(1, 0.25), (u64::MAX, 0.5)]), point(2, &[(1, -3e-9)])];
        let arm = ArmResult {
            name: "isr,beta=0.1".to_owned(),
            set: BTreeMap::new(),
            stopped_after: None,
            runs: Vec::new(),
            metrics: BTreeMap::from([("greedy.accuracy".to_owned(), points)]),
        };
        let results = Results {
            schema: SCHEMA,
            sweep: "s".to_owned(),
            baseline: None,
            seeds: vec![1],
            arms: vec![arm],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        write(&results, &path).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let of = |at: usize| {
            let row = &rows[at];
            let (_, Field::ULong(seed)) = row.get_column_iter().nth(1).unwrap() else { panic!("{row}") };
            (row.get_string(0).unwrap().clone(), *seed, row.get_int(2).unwrap(), row.get_double(4).unwrap())
        };
        let arm = || "isr,beta=0.1".to_owned();
        assert_eq!(rows.len(), 3);
        assert_eq!(of(0), (arm(), 1, 0, 0.25));
        assert_eq!(of(1), (arm(), u64::MAX, 0, 0.5));
        assert_eq!(of(2), (arm(), 1, 2, -3e-9));
        assert_eq!(rows[0].get_string(3).unwrap(), "greedy.accuracy");
    }

    #[test]
    fn without_a_value_there_is_an_empty_table() {
        let results =
            Results { schema: SCHEMA, sweep: "s".to_owned(), baseline: None, seeds: vec![1], arms: vec![] };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.parquet");
        write(&results, &path).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.get_row_iter(None).unwrap().count(), 0);
    }
}
