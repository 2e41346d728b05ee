//! Sizes, offsets and numbers against what gcc makes of Linux 6.1's `linux/videodev2.h` on x86-64 and on aarch64 (the two agree).
#![cfg(target_pointer_width = "64")]

use std::mem::{align_of, offset_of, size_of};

use v4l2_sys_mit::*;

#[test]
fn sizes_and_alignments() {
    macro_rules! check {
        ($($name:ident $size:literal $align:literal)*) => {
            $(assert_eq!((size_of::<$name>(), align_of::<$name>()), ($size, $align), stringify!($name));)*
        };
    }
    check! {
        timeval 16 8
        v4l2_rect 16 4
        v4l2_fract 8 4
        v4l2_capability 104 4
        v4l2_pix_format 48 4
        v4l2_fmtdesc 64 4
        v4l2_format 208 8
        v4l2_frmsize_discrete 8 4
        v4l2_frmsize_stepwise 24 4
        v4l2_frmsizeenum 44 4
        v4l2_frmival_stepwise 24 4
        v4l2_frmivalenum 52 4
        v4l2_captureparm 40 4
        v4l2_outputparm 40 4
        v4l2_streamparm 204 4
        v4l2_requestbuffers 20 4
        v4l2_timecode 16 4
        v4l2_buffer 88 8
        v4l2_exportbuffer 64 4
        v4l2_control 8 4
        v4l2_ext_control 20 1
        v4l2_ext_controls 32 8
        v4l2_queryctrl 68 4
        v4l2_query_ext_ctrl 232 8
        v4l2_querymenu 44 1
        v4l2_framebuffer 48 8
        v4l2_cropcap 44 4
        v4l2_crop 20 4
        v4l2_standard 72 8
        v4l2_input 80 8
        v4l2_output 72 8
        v4l2_tuner 84 4
        v4l2_modulator 68 4
        v4l2_frequency 44 4
        v4l2_audio 52 4
        v4l2_audioout 52 4
        v4l2_edid 40 8
        v4l2_jpegcompression 140 4
        v4l2_enc_idx_entry 32 8
        v4l2_enc_idx 2072 8
        v4l2_encoder_cmd 40 4
        v4l2_sliced_vbi_cap 116 4
    }
    assert_eq!(size_of::<v4l2_std_id>(), 8);
}

#[test]
fn offsets() {
    macro_rules! check {
        ($($name:ident $field:ident $offset:literal)*) => {
            $(assert_eq!(offset_of!($name, $field), $offset, concat!(stringify!($name), ".", stringify!($field)));)*
        };
    }
    check! {
        v4l2_capability driver 0
        v4l2_capability card 16
        v4l2_capability bus_info 48
        v4l2_capability version 80
        v4l2_capability capabilities 84
        v4l2_capability device_caps 88
        v4l2_format fmt 8
        v4l2_pix_format height 4
        v4l2_pix_format pixelformat 8
        v4l2_pix_format field 12
        v4l2_pix_format bytesperline 16
        v4l2_pix_format sizeimage 20
        v4l2_pix_format colorspace 24
        v4l2_pix_format flags 32
        v4l2_pix_format quantization 40
        v4l2_pix_format xfer_func 44
        v4l2_fmtdesc description 12
        v4l2_fmtdesc pixelformat 44
        v4l2_frmsizeenum type_ 8
        v4l2_frmsizeenum __bindgen_anon_1 12
        v4l2_frmivalenum type_ 16
        v4l2_frmivalenum __bindgen_anon_1 20
        v4l2_streamparm parm 4
        v4l2_captureparm capability 0
        v4l2_captureparm timeperframe 8
        v4l2_captureparm readbuffers 20
        v4l2_requestbuffers memory 8
        v4l2_requestbuffers capabilities 12
        v4l2_buffer index 0
        v4l2_buffer type_ 4
        v4l2_buffer bytesused 8
        v4l2_buffer flags 12
        v4l2_buffer field 16
        v4l2_buffer timestamp 24
        v4l2_buffer timecode 40
        v4l2_buffer sequence 56
        v4l2_buffer memory 60
        v4l2_buffer m 64
        v4l2_buffer length 72
        v4l2_buffer __bindgen_anon_1 80
        v4l2_ext_control __bindgen_anon_1 12
        v4l2_ext_controls request_fd 12
        v4l2_ext_controls controls 24
        v4l2_query_ext_ctrl name 8
        v4l2_query_ext_ctrl minimum 40
        v4l2_query_ext_ctrl flags 72
        v4l2_querymenu __bindgen_anon_1 8
        v4l2_querymenu reserved 40
    }
}

/// A request's number: direction, size of what is passed, group `V`, number within it.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | number
}

const READ: u32 = 2;
const WRITE: u32 = 1;
const BOTH: u32 = 3;

#[test]
fn request_numbers() {
    macro_rules! check {
        ($($name:ident $direction:ident $number:literal $passed:ty, $value:literal)*) => {
            $(assert_eq!(request($direction, $number, size_of::<$passed>()), $value, stringify!($name));)*
        };
    }
    check! {
        VIDIOC_QUERYCAP READ 0 v4l2_capability, 0x8068_5600
        VIDIOC_ENUM_FMT BOTH 2 v4l2_fmtdesc, 0xc040_5602
        VIDIOC_G_FMT BOTH 4 v4l2_format, 0xc0d0_5604
        VIDIOC_S_FMT BOTH 5 v4l2_format, 0xc0d0_5605
        VIDIOC_REQBUFS BOTH 8 v4l2_requestbuffers, 0xc014_5608
        VIDIOC_QUERYBUF BOTH 9 v4l2_buffer, 0xc058_5609
        VIDIOC_G_FBUF READ 10 v4l2_framebuffer, 0x8030_560a
        VIDIOC_S_FBUF WRITE 11 v4l2_framebuffer, 0x4030_560b
        VIDIOC_QBUF BOTH 15 v4l2_buffer, 0xc058_560f
        VIDIOC_EXPBUF BOTH 16 v4l2_exportbuffer, 0xc040_5610
        VIDIOC_DQBUF BOTH 17 v4l2_buffer, 0xc058_5611
        VIDIOC_STREAMON WRITE 18 std::ffi::c_int, 0x4004_5612
        VIDIOC_STREAMOFF WRITE 19 std::ffi::c_int, 0x4004_5613
        VIDIOC_G_PARM BOTH 21 v4l2_streamparm, 0xc0cc_5615
        VIDIOC_S_PARM BOTH 22 v4l2_streamparm, 0xc0cc_5616
        VIDIOC_G_STD READ 23 v4l2_std_id, 0x8008_5617
        VIDIOC_S_STD WRITE 24 v4l2_std_id, 0x4008_5618
        VIDIOC_ENUMSTD BOTH 25 v4l2_standard, 0xc048_5619
        VIDIOC_ENUMINPUT BOTH 26 v4l2_input, 0xc050_561a
        VIDIOC_G_CTRL BOTH 27 v4l2_control, 0xc008_561b
        VIDIOC_S_CTRL BOTH 28 v4l2_control, 0xc008_561c
        VIDIOC_G_TUNER BOTH 29 v4l2_tuner, 0xc054_561d
        VIDIOC_S_TUNER WRITE 30 v4l2_tuner, 0x4054_561e
        VIDIOC_G_AUDIO READ 33 v4l2_audio, 0x8034_5621
        VIDIOC_S_AUDIO WRITE 34 v4l2_audio, 0x4034_5622
        VIDIOC_QUERYCTRL BOTH 36 v4l2_queryctrl, 0xc044_5624
        VIDIOC_QUERYMENU BOTH 37 v4l2_querymenu, 0xc02c_5625
        VIDIOC_G_EDID BOTH 40 v4l2_edid, 0xc028_5628
        VIDIOC_S_EDID BOTH 41 v4l2_edid, 0xc028_5629
        VIDIOC_ENUMOUTPUT BOTH 48 v4l2_output, 0xc048_5630
        VIDIOC_G_AUDOUT READ 49 v4l2_audioout, 0x8034_5631
        VIDIOC_S_AUDOUT WRITE 50 v4l2_audioout, 0x4034_5632
        VIDIOC_G_MODULATOR BOTH 54 v4l2_modulator, 0xc044_5636
        VIDIOC_S_MODULATOR WRITE 55 v4l2_modulator, 0x4044_5637
        VIDIOC_G_FREQUENCY BOTH 56 v4l2_frequency, 0xc02c_5638
        VIDIOC_S_FREQUENCY WRITE 57 v4l2_frequency, 0x402c_5639
        VIDIOC_CROPCAP BOTH 58 v4l2_cropcap, 0xc02c_563a
        VIDIOC_G_CROP BOTH 59 v4l2_crop, 0xc014_563b
        VIDIOC_S_CROP WRITE 60 v4l2_crop, 0x4014_563c
        VIDIOC_G_JPEGCOMP READ 61 v4l2_jpegcompression, 0x808c_563d
        VIDIOC_S_JPEGCOMP WRITE 62 v4l2_jpegcompression, 0x408c_563e
        VIDIOC_QUERYSTD READ 63 v4l2_std_id, 0x8008_563f
        VIDIOC_TRY_FMT BOTH 64 v4l2_format, 0xc0d0_5640
        VIDIOC_ENUMAUDIO BOTH 65 v4l2_audio, 0xc034_5641
        VIDIOC_ENUMAUDOUT BOTH 66 v4l2_audioout, 0xc034_5642
        VIDIOC_G_SLICED_VBI_CAP BOTH 69 v4l2_sliced_vbi_cap, 0xc074_5645
        VIDIOC_G_EXT_CTRLS BOTH 71 v4l2_ext_controls, 0xc020_5647
        VIDIOC_S_EXT_CTRLS BOTH 72 v4l2_ext_controls, 0xc020_5648
        VIDIOC_TRY_EXT_CTRLS BOTH 73 v4l2_ext_controls, 0xc020_5649
        VIDIOC_ENUM_FRAMESIZES BOTH 74 v4l2_frmsizeenum, 0xc02c_564a
        VIDIOC_ENUM_FRAMEINTERVALS BOTH 75 v4l2_frmivalenum, 0xc034_564b
        VIDIOC_G_ENC_INDEX READ 76 v4l2_enc_idx, 0x8818_564c
        VIDIOC_ENCODER_CMD BOTH 77 v4l2_encoder_cmd, 0xc028_564d
        VIDIOC_TRY_ENCODER_CMD BOTH 78 v4l2_encoder_cmd, 0xc028_564e
        VIDIOC_QUERY_EXT_CTRL BOTH 103 v4l2_query_ext_ctrl, 0xc0e8_5667
    }
}

#[test]
fn constants() {
    macro_rules! check {
        ($($name:ident $value:literal)*) => { $(assert_eq!($name, $value, stringify!($name));)* };
    }
    check! {
        V4L2_CTRL_FLAG_NEXT_CTRL 0x8000_0000
        V4L2_CTRL_FLAG_NEXT_COMPOUND 0x4000_0000
        V4L2_CID_BRIGHTNESS 0x0098_0900
        V4L2_CID_CONTRAST 0x0098_0901
        V4L2_CID_SATURATION 0x0098_0902
        V4L2_CID_HUE 0x0098_0903
        V4L2_CID_GAMMA 0x0098_0910
        V4L2_CID_EXPOSURE 0x0098_0911
        V4L2_CID_GAIN 0x0098_0913
        V4L2_CID_WHITE_BALANCE_TEMPERATURE 0x0098_091a
        V4L2_CID_SHARPNESS 0x0098_091b
        V4L2_CID_BACKLIGHT_COMPENSATION 0x0098_091c
        V4L2_CID_PAN_RELATIVE 0x009a_0904
        V4L2_CID_TILT_RELATIVE 0x009a_0905
        V4L2_CID_FOCUS_RELATIVE 0x009a_090b
        V4L2_CID_ZOOM_RELATIVE 0x009a_090e
        V4L2_CID_IRIS_RELATIVE 0x009a_0912
        v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_DISCRETE 1
        v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_CONTINUOUS 2
        v4l2_frmsizetypes_V4L2_FRMSIZE_TYPE_STEPWISE 3
        v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_DISCRETE 1
        v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_CONTINUOUS 2
        v4l2_frmivaltypes_V4L2_FRMIVAL_TYPE_STEPWISE 3
    }
}

#[test]
fn sizes_of_unions() {
    assert_eq!(size_of::<v4l2_pix_format__bindgen_ty_1>(), 4);
    assert_eq!(size_of::<v4l2_format__bindgen_ty_1>(), 200);
    assert_eq!(size_of::<v4l2_streamparm__bindgen_ty_1>(), 200);
    assert_eq!(size_of::<v4l2_buffer__bindgen_ty_1>(), 8);
    assert_eq!(size_of::<v4l2_frmsizeenum__bindgen_ty_1>(), 24);
    assert_eq!(size_of::<v4l2_frmivalenum__bindgen_ty_1>(), 24);
    assert_eq!(size_of::<v4l2_ext_control__bindgen_ty_1>(), 8);
    assert_eq!(size_of::<v4l2_querymenu__bindgen_ty_1>(), 32);
}
