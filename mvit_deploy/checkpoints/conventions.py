"""How each source prepares pictures for the weights that it has published: sizes are (height, width)."""

from mvit_deploy.spec import Preprocessing

# apple/ml-cvnets v0.1 data/datasets (images by cv2, hence BGR); timm's default configuration (crop_pct 0.9, so 284 =
# floor(256 / 0.9)); preprocessor_config.json of apple/mobilevit-* and apple/deeplabv3-mobilevit-* on Hugging Face.
# OpenCV does not antialias, which cannot be told from the file; what is reproduced of ml-cvnets is the rest.
PUBLISHED = {
    ("cvnets", "classification"): Preprocessing(288, (256, 256), "bilinear", "BGR"),
    ("cvnets", "detection"): Preprocessing((320, 320), None, "bilinear", "BGR"),
    ("cvnets", "segmentation"): Preprocessing((512, 512), None, "bilinear", "BGR"),
    ("timm", "classification"): Preprocessing(284, (256, 256), "bicubic", "RGB", half_pixel="even"),
    ("huggingface", "classification"): Preprocessing(288, (256, 256), "bilinear", "BGR"),
    ("huggingface", "segmentation"): Preprocessing(544, (512, 512), "bilinear", "BGR"),
    ("huggingface", "backbone"): Preprocessing(288, (256, 256), "bilinear", "BGR"),
}
