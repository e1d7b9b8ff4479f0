"""One real CT with voxels of 3 mm, used both for training and for testing, in about ten minutes on two cores.

This shows that every stage works on a scan; it tells nothing about the accuracy on other scans. CT and SEG are folders
with volume-0.nii.gz and segmentation-0.nii.gz, such as the example CT of TotalSegmentator's tests with a liver mask
(122 x 101 x 112 voxels):

    R="--parameters=experiments/real_ct.py --train_ct_path=$CT --train_seg_path=$SEG"
    R="$R --test_ct_path=$CT --test_seg_path=$SEG"
    python data_prepare/get_training_set.py $R
    python train_ds.py $R
    python val.py $R
    python Densecrf/2D-CRF.py $R
    python Densecrf/3D-CRF.py $R
    python scripts/draw_figures.py $R
"""

training_set_path = './real-ct/train/'
pred_path = './real-ct/pred/'
crf_path = './real-ct/crf/'
module_path = './real-ct/module/'
module_dir = './real-ct/module/'
figure_path = './real-ct/img/'

size = 32
stride = 8
slice_thickness = 3.0

loss = 'Hybrid'
drop_rate = 0.1
learning_rate = 3e-4
learning_rate_decay = [35]
learning_rate_factor = 0.2
batch_size = 2
samples_per_case = 20
Epoch = 50
num_workers = 0
resume = 'auto'

# The default s2 of 10 voxels is 7 mm in LiTS and would be 30 mm in this CT.
s2 = 3.0
s3 = 20.0
z_expand = 5
x_expand = 10
y_expand = 10
