"""LiTS with the settings of the reference, which are the defaults; only the folders differ.

111 cases to train on, and the 20 cases of 3DIRCADb to test on: volume-28 to volume-47 by LITS-CHALLENGE #14 and
AbdomenCT-1K #27. Move these 20 into LiTS/test first. The training needs a GPU: 1,000 epochs of 111 steps.

    python data_prepare/check_dataset.py --parameters=experiments/lits.py
    python data_prepare/get_training_set.py --parameters=experiments/lits.py
    python train_ds.py --parameters=experiments/lits.py
    python val.py --parameters=experiments/lits.py
    python Densecrf/3D-CRF.py --parameters=experiments/lits.py
"""

train_ct_path = './LiTS/train/CT/'
train_seg_path = './LiTS/train/seg/'
test_ct_path = './LiTS/test/CT/'
test_seg_path = './LiTS/test/seg/'
module_path = './module/'
