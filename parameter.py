"""Every setting, in groups. Plain values only; a name defined above may be used below.

Any script takes any of them as an override:  python train_ds.py --batch_size=2 --parameters=experiments/demo.py
A later value wins: this file, then the --parameters files, then the --name=value arguments.
"""

# ---------------------------------------------------------------------------- paths
train_ct_path = './data/train/CT/'  # folder of the CT to train on: volume-N.nii, .nii.gz, .nrrd, .mha
train_seg_path = './data/train/seg/'  # folder of their labels: segmentation-N, 0 background, 1 liver, 2 tumour
test_ct_path = './data/test/CT/'  # folder of the CT to predict
test_seg_path = './data/test/seg/'  # folder of their labels; a case without one is predicted and not scored
training_set_path = './train/'  # folder that get_training_set.py fills and train_ds.py reads
pred_path = './pred/'  # folder for the masks and tables of val.py
crf_path = './crf/'  # folder for the masks and tables of the CRF
module_path = './module/net550-0.028-0.022.pth'  # weights for val.py: a .pth file, or a folder (its newest)
module_dir = './module/'  # folder that train_ds.py writes weights, loss.csv and loss_curve.png to
figure_path = './img/'  # folder that draw_figures.py writes to
spacing_override = {}  # true spacing of cases whose headers are wrong: {'volume-28': [0.7, 0.7, 1.25]} (x, y, z in mm)
check_path = './check.csv'  # table that check_dataset.py writes
grid_tolerance = 0.1  # how far the corners of a label may lie from those of its CT (mm, above 0)

# ---------------------------------------------------------------------------- phantom
phantom_train = 8  # phantoms made for training (cases, 0 or more)
phantom_test = 3  # phantoms made for testing (cases, 0 or more)
phantom_depth = 96  # slices of a phantom (voxels, 16 or more; varied from case to case)
phantom_width = 192  # rows and columns of a phantom (voxels, 16 or more)

# ---------------------------------------------------------------------------- training set
size = 48  # consecutive slices in one sample and one window (slices, a multiple of 8)
down_scale = 0.5  # in-plane scale of the network's input (1 / integer)
expand_slice = 20  # slices kept above and below the liver (slices, 0 or more)
slice_thickness = 1.0  # slice distance after resampling (mm, above 0)
upper = 200  # upper end of the intensity window (HU)
lower = -200  # lower end of the intensity window (HU)

# ---------------------------------------------------------------------------- network
drop_rate = 0.3  # dropout in training (0 to below 1)

# ---------------------------------------------------------------------------- training
gpu = '0'  # GPUs to use, as in '0' or '0,1'; '' or none present: CPU
Epoch = 1000  # passes over the training set (1 or more)
learning_rate = 1e-4  # Adam's learning rate (above 0)
learning_rate_decay = [500, 750]  # epochs after which the learning rate falls
learning_rate_factor = 0.1  # by this factor (above 0, at most 1)
alpha = 0.33  # weight of the three deep supervision losses (0 or more)
alpha_decay = 0.8  # factor on alpha every alpha_epochs epochs (above 0, at most 1)
alpha_epochs = 40  # epochs between two decays of alpha (1 or more)
batch_size = 1  # samples in one step, over all GPUs (1 or more)
micro_batch_size = 0  # of these on one GPU at a time, the others after them (0 or more; 0 = all): less memory
validation_cases = 0  # cases of the training set held out for the validation Dice (cases, 0 or more)
validate_every = 10  # epochs between two validations (1 or more); the last is always validated
samples_per_case = 1  # samples that one epoch draws from each case (1 or more)
num_workers = 3  # processes that read samples, or work on cases (0 or more; 0 = in the main process)
dask_scheduler = ''  # Dask cluster for check, training set, CRF: tcp://host:8786 or its file (.json); '' = this machine
pin_memory = True  # page-locked samples, for quicker copies to the GPU
precision = 'auto'  # number format of the network: 'float32', 'bf16', 'fp16'; 'auto' = bf16 on GPUs that have it
checkpointing = False  # compute each stage again in the backward pass: less memory, a third more time
compile = False  # let torch.compile fuse the network: one GPU, needs a C++ compiler, minutes at the start
cudnn_benchmark = True  # let cuDNN try its algorithms once per input size
loss = 'Tversky'  # Dice, ELDice, Jaccard, SS, Tversky, Hybrid, BCE or WCE
pretrained_path = ''  # weights to start from (.pth); '' = a new network
resume = ''  # 'auto' = go on from module_dir/last.pth if there; 'changed' = with other parameters; '' = anew
save_every = 50  # epochs between two saved networks (1 or more); the last is always saved
keep_saved = 0  # newest of these networks that are kept (0 or more); 0 = all
print_every = 5  # steps between two printed lines and visdom points (1 or more)
seed = 0  # of weights, sampling and phantoms (0 or more)
visdom_server = 'http://localhost'  # visdom server's address; '' = do not look for one
visdom_port = 8097  # its port (1 to 65535)

# ---------------------------------------------------------------------------- testing
threshold = 0.5  # probability from which a voxel is liver (above 0, below 1)
stride = 12  # distance of two windows (slices, 1 to size)
maximum_hole = 5e4  # holes of fewer voxels are filled (voxels, 0 or more)
test_slice_thickness = slice_thickness  # slice distance the network sees (mm, above 0); None = slices as stored
window_batch = 1  # windows that go through the network at a time (1 or more)
surface_tolerance = 2.0  # distance up to which surfaces agree, for surface_dice (mm, 0 or more)
report_surfaces = 20  # cases that turn as a surface in report.html, the worst first (cases, 0 or more)

# ---------------------------------------------------------------------------- dense CRF
z_expand = 10  # growth of the box around the prediction, slices (voxels, 0 or more)
x_expand = 30  # the same along array axis 1 (voxels, 0 or more)
y_expand = 30  # the same along array axis 2 (voxels, 0 or more)
max_iter = 20  # mean-field iterations (1 or more)
s1 = 1.0  # Gaussian kernel: standard deviation in space (voxels, above 0)
s2 = 10.0  # bilateral kernel: standard deviation in space (voxels, above 0)
s3 = 10.0  # bilateral kernel: standard deviation in intensity (HU, above 0)
crf_engine = 'grid'  # the implementation: 'grid', or 'pydensecrf' as in the reference
crf_tolerance = 0.0  # stop after an iteration that changes at most this share of labels (0 to below 1; 0 = never)
