//! The kernel's V4L2 structures and numbers, as far as the crate `v4l` uses them.
//!
//! It takes the place of the crate of this name on crates.io through `[patch.crates-io]`. That one generates its source from the
//! system's header in a build script, and so needs libclang wherever pawgate is built, the image for cross builds included; this
//! one needs nothing. Its names are therefore those that bindgen gives.
//!
//! Source: the kernel's interface for programs, `linux/videodev2.h`, `linux/v4l2-controls.h` and `linux/v4l2-common.h` of Linux 6.1,
//! described in the kernel's documentation ("Video for Linux API"), where the fields are explained. The interface is stable: the
//! kernel only ever gives meaning to reserved fields. `tests/layout.rs` holds sizes, offsets and request numbers against what a C
//! compiler makes of the header.
//!
//! The layout follows the target's C rules, on 32 bits too; times have the width of a C `long` there, which the kernel still takes
//! (it tells the two by the size in the request number). Structures of which `v4l` takes nothing but the size are written out all
//! the same, because their size depends on the target's pointers and alignment.
//!
//! Types and constants only: no function, no `unsafe`. What `v4l` does not name has no place here.
#![forbid(unsafe_code)]
// The names are the kernel's and bindgen's.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
// The fields are the kernel's, and its documentation says what they mean.
#![allow(missing_docs)]

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};

/// C's `time_t`.
pub type time_t = c_long;
/// Analogue television standards, a bit each.
pub type v4l2_std_id = u64;

/// C's `struct timeval`: seconds and microseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct timeval {
    pub tv_sec: time_t,
    pub tv_usec: c_long,
}

/// A rectangle, in pixels.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_rect {
    pub left: i32,
    pub top: i32,
    pub width: u32,
    pub height: u32,
}

/// A fraction.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_fract {
    pub numerator: u32,
    pub denominator: u32,
}

/// What a device is and can do: `VIDIOC_QUERYCAP`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    pub reserved: [u32; 3],
}

// ---- formats ----

/// A format of one plane.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_pix_format {
    pub width: u32,
    pub height: u32,
    pub pixelformat: u32,
    pub field: u32,
    pub bytesperline: u32,
    pub sizeimage: u32,
    pub colorspace: u32,
    pub priv_: u32,
    pub flags: u32,
    pub __bindgen_anon_1: v4l2_pix_format__bindgen_ty_1,
    pub quantization: u32,
    pub xfer_func: u32,
}

/// How colours are encoded.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_pix_format__bindgen_ty_1 {
    pub ycbcr_enc: u32,
    pub hsv_enc: u32,
}

/// A format that a device offers: `VIDIOC_ENUM_FMT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_fmtdesc {
    pub index: u32,
    pub type_: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub pixelformat: u32,
    pub mbus_code: u32,
    pub reserved: [u32; 3],
}

/// The format in use: `VIDIOC_G_FMT`, `VIDIOC_S_FMT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_format {
    pub type_: u32,
    pub fmt: v4l2_format__bindgen_ty_1,
}

/// The format of each kind of stream.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_format__bindgen_ty_1 {
    pub pix: v4l2_pix_format,
    /// Other members of the kernel's union hold pointers and are larger than `pix`: these two give it their alignment and size.
    pub align: [*mut c_void; 0],
    pub raw_data: [u8; 200],
}

// ---- sizes and rates ----

pub const v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE: u32 = 1;
pub const v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_CONTINUOUS: u32 = 2;
pub const v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_STEPWISE: u32 = 3;
pub const v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE: u32 = 1;
pub const v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_CONTINUOUS: u32 = 2;
pub const v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_STEPWISE: u32 = 3;

/// One size.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_frmsize_discrete {
    pub width: u32,
    pub height: u32,
}

/// A range of sizes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_frmsize_stepwise {
    pub min_width: u32,
    pub max_width: u32,
    pub step_width: u32,
    pub min_height: u32,
    pub max_height: u32,
    pub step_height: u32,
}

/// A size that a format comes in: `VIDIOC_ENUM_FRAMESIZES`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_frmsizeenum {
    pub index: u32,
    pub pixel_format: u32,
    pub type_: u32,
    pub __bindgen_anon_1: v4l2_frmsizeenum__bindgen_ty_1,
    pub reserved: [u32; 2],
}

/// By the type of size.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_frmsizeenum__bindgen_ty_1 {
    pub discrete: v4l2_frmsize_discrete,
    pub stepwise: v4l2_frmsize_stepwise,
}

/// A range of times from frame to frame.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_frmival_stepwise {
    pub min: v4l2_fract,
    pub max: v4l2_fract,
    pub step: v4l2_fract,
}

/// A time from frame to frame that a size comes with: `VIDIOC_ENUM_FRAMEINTERVALS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_frmivalenum {
    pub index: u32,
    pub pixel_format: u32,
    pub width: u32,
    pub height: u32,
    pub type_: u32,
    pub __bindgen_anon_1: v4l2_frmivalenum__bindgen_ty_1,
    pub reserved: [u32; 2],
}

/// By the type of interval.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_frmivalenum__bindgen_ty_1 {
    pub discrete: v4l2_fract,
    pub stepwise: v4l2_frmival_stepwise,
}

/// How a stream is captured.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_captureparm {
    pub capability: u32,
    pub capturemode: u32,
    pub timeperframe: v4l2_fract,
    pub extendedmode: u32,
    pub readbuffers: u32,
    pub reserved: [u32; 4],
}

/// How a stream is put out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_outputparm {
    pub capability: u32,
    pub outputmode: u32,
    pub timeperframe: v4l2_fract,
    pub extendedmode: u32,
    pub writebuffers: u32,
    pub reserved: [u32; 4],
}

/// The rate in use: `VIDIOC_G_PARM`, `VIDIOC_S_PARM`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_streamparm {
    pub type_: u32,
    pub parm: v4l2_streamparm__bindgen_ty_1,
}

/// By the direction of the stream.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_streamparm__bindgen_ty_1 {
    pub capture: v4l2_captureparm,
    pub output: v4l2_outputparm,
    pub raw_data: [u8; 200],
}

// ---- buffers ----

/// Asks for buffers: `VIDIOC_REQBUFS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_requestbuffers {
    pub count: u32,
    pub type_: u32,
    pub memory: u32,
    pub capabilities: u32,
    pub flags: u8,
    pub reserved: [u8; 3],
}

/// A time of day within a recording, as studios count it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_timecode {
    pub type_: u32,
    pub flags: u32,
    pub frames: u8,
    pub seconds: u8,
    pub minutes: u8,
    pub hours: u8,
    pub userbits: [u8; 4],
}

/// A buffer: `VIDIOC_QUERYBUF`, `VIDIOC_QBUF`, `VIDIOC_DQBUF`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct v4l2_buffer {
    pub index: u32,
    pub type_: u32,
    pub bytesused: u32,
    pub flags: u32,
    pub field: u32,
    pub timestamp: timeval,
    pub timecode: v4l2_timecode,
    pub sequence: u32,
    pub memory: u32,
    pub m: v4l2_buffer__bindgen_ty_1,
    pub length: u32,
    pub reserved2: u32,
    pub __bindgen_anon_1: v4l2_buffer__bindgen_ty_2,
}

/// Where a buffer lies.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_buffer__bindgen_ty_1 {
    pub offset: u32,
    pub userptr: c_ulong,
    pub planes: *mut c_void,
    pub fd: i32,
}

/// The request that a buffer belongs to.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_buffer__bindgen_ty_2 {
    pub request_fd: i32,
    pub reserved: u32,
}

/// Shares a buffer: `VIDIOC_EXPBUF`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_exportbuffer {
    pub type_: u32,
    pub index: u32,
    pub plane: u32,
    pub flags: u32,
    pub fd: i32,
    pub reserved: [u32; 11],
}

// ---- controls ----

pub const V4L2_CTRL_FLAG_NEXT_CTRL: u32 = 0x8000_0000;
pub const V4L2_CTRL_FLAG_NEXT_COMPOUND: u32 = 0x4000_0000;

const USER: u32 = 0x0098_0900;
const CAMERA: u32 = 0x009A_0900;

pub const V4L2_CID_BRIGHTNESS: u32 = USER;
pub const V4L2_CID_CONTRAST: u32 = USER + 1;
pub const V4L2_CID_SATURATION: u32 = USER + 2;
pub const V4L2_CID_HUE: u32 = USER + 3;
pub const V4L2_CID_GAMMA: u32 = USER + 16;
pub const V4L2_CID_EXPOSURE: u32 = USER + 17;
pub const V4L2_CID_GAIN: u32 = USER + 19;
pub const V4L2_CID_WHITE_BALANCE_TEMPERATURE: u32 = USER + 26;
pub const V4L2_CID_SHARPNESS: u32 = USER + 27;
pub const V4L2_CID_BACKLIGHT_COMPENSATION: u32 = USER + 28;
pub const V4L2_CID_PAN_RELATIVE: u32 = CAMERA + 4;
pub const V4L2_CID_TILT_RELATIVE: u32 = CAMERA + 5;
pub const V4L2_CID_FOCUS_RELATIVE: u32 = CAMERA + 11;
pub const V4L2_CID_ZOOM_RELATIVE: u32 = CAMERA + 14;
pub const V4L2_CID_IRIS_RELATIVE: u32 = CAMERA + 18;

/// A control's value, the old way: `VIDIOC_G_CTRL`, `VIDIOC_S_CTRL`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_control {
    pub id: u32,
    pub value: i32,
}

/// A control's value.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct v4l2_ext_control {
    pub id: u32,
    pub size: u32,
    pub reserved2: [u32; 1],
    pub __bindgen_anon_1: v4l2_ext_control__bindgen_ty_1,
}

/// By the type of control.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_ext_control__bindgen_ty_1 {
    pub value: i32,
    pub value64: i64,
    pub string: *mut c_char,
    pub p_u8: *mut u8,
    pub p_u16: *mut u16,
    pub p_u32: *mut u32,
    pub ptr: *mut c_void,
}

/// Several controls' values: `VIDIOC_G_EXT_CTRLS`, `VIDIOC_S_EXT_CTRLS`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct v4l2_ext_controls {
    pub which: u32,
    pub count: u32,
    pub error_idx: u32,
    pub request_fd: i32,
    pub reserved: [u32; 1],
    pub controls: *mut v4l2_ext_control,
}

/// What a control is, the old way: `VIDIOC_QUERYCTRL`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_queryctrl {
    pub id: u32,
    pub type_: u32,
    pub name: [u8; 32],
    pub minimum: i32,
    pub maximum: i32,
    pub step: i32,
    pub default_value: i32,
    pub flags: u32,
    pub reserved: [u32; 2],
}

/// What a control is: `VIDIOC_QUERY_EXT_CTRL`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_query_ext_ctrl {
    pub id: u32,
    pub type_: u32,
    pub name: [c_char; 32],
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default_value: i64,
    pub flags: u32,
    pub elem_size: u32,
    pub elems: u32,
    pub nr_of_dims: u32,
    pub dims: [u32; 4],
    pub reserved: [u32; 32],
}

/// One choice of a menu: `VIDIOC_QUERYMENU`.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct v4l2_querymenu {
    pub id: u32,
    pub index: u32,
    pub __bindgen_anon_1: v4l2_querymenu__bindgen_ty_1,
    pub reserved: u32,
}

/// By the type of menu.
#[repr(C)]
#[derive(Clone, Copy)]
pub union v4l2_querymenu__bindgen_ty_1 {
    pub name: [u8; 32],
    pub value: i64,
}

// ---- what only gives its size to a request number ----

/// `VIDIOC_G_FBUF`, `VIDIOC_S_FBUF`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct v4l2_framebuffer {
    pub capability: u32,
    pub flags: u32,
    pub base: *mut c_void,
    pub fmt: v4l2_framebuffer__bindgen_ty_1,
}

/// The format of a frame buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_framebuffer__bindgen_ty_1 {
    pub width: u32,
    pub height: u32,
    pub pixelformat: u32,
    pub field: u32,
    pub bytesperline: u32,
    pub sizeimage: u32,
    pub colorspace: u32,
    pub priv_: u32,
}

/// `VIDIOC_CROPCAP`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_cropcap {
    pub type_: u32,
    pub bounds: v4l2_rect,
    pub defrect: v4l2_rect,
    pub pixelaspect: v4l2_fract,
}

/// `VIDIOC_G_CROP`, `VIDIOC_S_CROP`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_crop {
    pub type_: u32,
    pub c: v4l2_rect,
}

/// `VIDIOC_ENUMSTD`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_standard {
    pub index: u32,
    pub id: v4l2_std_id,
    pub name: [u8; 24],
    pub frameperiod: v4l2_fract,
    pub framelines: u32,
    pub reserved: [u32; 4],
}

/// `VIDIOC_ENUMINPUT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_input {
    pub index: u32,
    pub name: [u8; 32],
    pub type_: u32,
    pub audioset: u32,
    pub tuner: u32,
    pub std: v4l2_std_id,
    pub status: u32,
    pub capabilities: u32,
    pub reserved: [u32; 3],
}

/// `VIDIOC_ENUMOUTPUT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_output {
    pub index: u32,
    pub name: [u8; 32],
    pub type_: u32,
    pub audioset: u32,
    pub modulator: u32,
    pub std: v4l2_std_id,
    pub capabilities: u32,
    pub reserved: [u32; 3],
}

/// `VIDIOC_G_TUNER`, `VIDIOC_S_TUNER`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_tuner {
    pub index: u32,
    pub name: [u8; 32],
    pub type_: u32,
    pub capability: u32,
    pub rangelow: u32,
    pub rangehigh: u32,
    pub rxsubchans: u32,
    pub audmode: u32,
    pub signal: i32,
    pub afc: i32,
    pub reserved: [u32; 4],
}

/// `VIDIOC_G_MODULATOR`, `VIDIOC_S_MODULATOR`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_modulator {
    pub index: u32,
    pub name: [u8; 32],
    pub capability: u32,
    pub rangelow: u32,
    pub rangehigh: u32,
    pub txsubchans: u32,
    pub type_: u32,
    pub reserved: [u32; 3],
}

/// `VIDIOC_G_FREQUENCY`, `VIDIOC_S_FREQUENCY`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_frequency {
    pub tuner: u32,
    pub type_: u32,
    pub frequency: u32,
    pub reserved: [u32; 8],
}

/// `VIDIOC_ENUMAUDIO`, `VIDIOC_G_AUDIO`, `VIDIOC_S_AUDIO`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_audio {
    pub index: u32,
    pub name: [u8; 32],
    pub capability: u32,
    pub mode: u32,
    pub reserved: [u32; 2],
}

/// `VIDIOC_ENUMAUDOUT`, `VIDIOC_G_AUDOUT`, `VIDIOC_S_AUDOUT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_audioout {
    pub index: u32,
    pub name: [u8; 32],
    pub capability: u32,
    pub mode: u32,
    pub reserved: [u32; 2],
}

/// `VIDIOC_G_EDID`, `VIDIOC_S_EDID`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct v4l2_edid {
    pub pad: u32,
    pub start_block: u32,
    pub blocks: u32,
    pub reserved: [u32; 5],
    pub edid: *mut u8,
}

/// `VIDIOC_G_JPEGCOMP`, `VIDIOC_S_JPEGCOMP`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct v4l2_jpegcompression {
    pub quality: c_int,
    pub APPn: c_int,
    pub APP_len: c_int,
    pub APP_data: [c_char; 60],
    pub COM_len: c_int,
    pub COM_data: [c_char; 60],
    pub jpeg_markers: u32,
}

/// One entry of [`v4l2_enc_idx`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_enc_idx_entry {
    pub offset: u64,
    pub pts: u64,
    pub length: u32,
    pub flags: u32,
    pub reserved: [u32; 2],
}

/// `VIDIOC_G_ENC_INDEX`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct v4l2_enc_idx {
    pub entries: u32,
    pub entries_cap: u32,
    pub reserved: [u32; 4],
    pub entry: [v4l2_enc_idx_entry; 64],
}

/// `VIDIOC_ENCODER_CMD`, `VIDIOC_TRY_ENCODER_CMD`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_encoder_cmd {
    pub cmd: u32,
    pub flags: u32,
    /// The kernel's union has this one member.
    pub data: [u32; 8],
}

/// `VIDIOC_G_SLICED_VBI_CAP`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct v4l2_sliced_vbi_cap {
    pub service_set: u16,
    pub service_lines: [[u16; 24]; 2],
    pub type_: u32,
    pub reserved: [u32; 3],
}
