/** The files of the engine, as manifest.json of its folder lists them. */

/** A file that the worker loads. */
export interface File {
  /** Address, relative to the folder or absolute. */
  url: string;
  /** Size in bytes. */
  size: number;
  /** SHA-256 in hexadecimal, or null for files of the site itself. */
  sha256: string | null;
}

/** manifest.json, which build.py writes. */
export interface Manifest {
  /** The folder of Pyodide, relative to the folder of the manifest, and the sizes of its files together. */
  pyodide: { folder: string; size: number };
  /** The wheel of NumPy. */
  numpy: File;
  /** The wheels of rcnn and of the packages that it requires, and the engine itself, as archives in the zip format. */
  packages: File[];
}

/** A message in JSON, in which an array is { $array: index, shape }. */
export type Packed = unknown;

/** The kinds of array in a message. */
export type Numbers = Float32Array | Int32Array | Uint8Array;

/** Return a message with arrays in place of their indices. */
export function unpack(packed: Packed, arrays: Numbers[]): unknown {
  if (Array.isArray(packed)) return packed.map((value) => unpack(value, arrays));
  if (typeof packed !== "object" || packed === null) return packed;
  const fields = packed as Record<string, unknown>;
  if ("$array" in fields) return { shape: fields.shape, data: arrays[fields.$array as number] };
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, unpack(value, arrays)]));
}

/** Return a message without arrays; `arrays` receives them. */
export function pack(value: unknown, arrays: Numbers[]): Packed {
  if (Array.isArray(value)) return value.map((one) => pack(one, arrays));
  if (typeof value !== "object" || value === null) return value;
  const fields = value as Record<string, unknown>;
  if (fields.data instanceof Uint8Array) return { $array: arrays.push(fields.data) - 1, shape: fields.shape };
  return Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, pack(one, arrays)]));
}
