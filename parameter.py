"""The settings of every script and their defaults, in groups.

Plain values only; a name that is defined above may be used below. Each comment gives the meaning, and in parentheses
the unit and the range. Change a value here, or override it for one run:

    python train_ds.py --batch_size=2 --parameters=experiments/demo.py

A later value wins: this file, then the --parameters files, then the --name=value arguments.
"""

# ---------------------------------------------------------------------------- folders and files
train_ct_path = './data/train/CT/'  # folder of the CT volumes to train on: volume-N in NIfTI, NRRD or MetaImage
train_seg_path = './data/train/seg/'  # folder of their labels, segmentation-N: 0 background, 1 liver, 2 tumour
test_ct_path = './data/test/CT/'  # folder of the CT volumes to predict
test_seg_path = './data/test/seg/'  # folder of their labels; a case without label is predicted and not scored
training_set_path = './train/'  # folder that get_training_set.py writes and train_ds.py reads
module_dir = './module/'  # folder that train_ds.py writes weights, loss.csv and loss_curve.png to
module_path = './module/net550-0.028-0.022.pth'  # weights that val.py loads: a .pth file, or a folder (its newest file)
pred_path = './pred/'  # folder of the masks and tables of val.py, and of the report
crf_path = './crf/'  # folder of the masks and tables of the CRF
figure_path = './img/'  # folder that draw_figures.py and analyse_dataset.py write to
check_path = './check.csv'  # table that check_dataset.py writes

# ---------------------------------------------------------------------------- geometry of the cases
spacing_override = {}  # true spacing of cases with wrong headers (x, y, z in mm, as in {'volume-28': [0.7, 0.7, 1.25]})
grid_tolerance = 0.1  # largest distance between the corners of a CT and those of its label or mask (mm, above 0)

# ---------------------------------------------------------------------------- phantoms
phantom_train = 8  # phantoms to make for training (cases, 0 or more)
phantom_test = 3  # phantoms to make for testing (cases, 0 or more)
phantom_depth = 96  # mean number of slices of a phantom; each case differs by up to 20 % (slices, 16 or more)
phantom_width = 192  # rows and columns of a phantom (voxels, 16 or more)

# ---------------------------------------------------------------------------- training set
size = 48  # consecutive slices in a sample and in a window (slices, a multiple of 8)
down_scale = 0.5  # in-plane scale of the network's input (1 / integer, such as 1, 0.5 or 0.25)
expand_slice = 20  # slices to keep above and below the liver (slices, 0 or more)
slice_thickness = 1.0  # distance between slices after resampling (mm, above 0)
upper = 200  # upper end of the intensity window (HU)
lower = -200  # lower end of the intensity window (HU, below upper)

# ---------------------------------------------------------------------------- training
drop_rate = 0.3  # dropout probability (0 to below 1)
loss = 'Tversky'  # loss function: Dice, ELDice, Jaccard, SS, Tversky, Hybrid, BCE or WCE
Epoch = 1000  # passes over the training set (epochs, 1 or more)
learning_rate = 1e-4  # Adam's learning rate (above 0)
learning_rate_decay = [500, 750]  # epochs after which learning_rate is multiplied by its factor (a list of epochs)
learning_rate_factor = 0.1  # factor on learning_rate at each of these epochs (above 0, at most 1)
alpha = 0.33  # weight of the three deep supervision losses; the output head has weight 1 (0 or more)
alpha_decay = 0.8  # factor on alpha every alpha_epochs epochs (above 0, at most 1)
alpha_epochs = 40  # epochs between two decays of alpha (epochs, 1 or more)
batch_size = 1  # samples in a step, over all GPUs (samples, 1 or more)
samples_per_case = 1  # samples that an epoch draws from each case (samples, 1 or more)
validation_cases = 0  # cases of the training set that are held out for the validation Dice (cases, 0 or more)
validate_every = 10  # epochs between two validations; the last epoch is always validated (epochs, 1 or more)
seed = 0  # seed of the initial weights, the sampling, the dropout and the phantoms (0 or more)
pretrained_path = ''  # weights to start from, a .pth file; '' starts with a new network
resume = ''  # resume from module_dir/last.pth ('auto', 'changed' or ''): 'changed' allows other parameters, '' refuses
save_every = 50  # epochs between two saved networks; the last epoch is always saved (epochs, 1 or more)
keep_saved = 0  # newest saved networks to keep (files, 0 or more; 0 = all)

# ---------------------------------------------------------------------------- speed and memory
gpu = '0'  # GPUs to use (numbers such as '0' or '0,1', or '' for the CPU); without a GPU the CPU is used
precision = 'auto'  # number format ('auto', 'float32', 'bf16' or 'fp16'); 'auto' is bf16 on GPUs that support it
micro_batch_size = 0  # samples of a step that one GPU computes together; fewer need less memory (0 or more; 0 = all)
window_batch = 1  # windows that val.py predicts together (windows, 1 or more)
checkpointing = False  # recompute activations in the backward pass (True or False): less memory, a third more time
compile = False  # torch.compile the network (True or False): one GPU only, needs a C++ compiler, starts minutes later
cudnn_benchmark = True  # let cuDNN time its algorithms once for each input size (True or False)
pin_memory = True  # read samples into page-locked memory, which a GPU copies faster (True or False)
num_workers = 3  # worker processes that read samples or work on cases (0 or more; 0 = only the main process)
dask_scheduler = ''  # Dask cluster for CPU stages (tcp://host:8786, a scheduler file (.json) or '' for this machine)

# ---------------------------------------------------------------------------- progress
print_every = 5  # steps between two printed lines and visdom points (steps, 1 or more)
visdom_server = 'http://localhost'  # address of the visdom server; '' uses none
visdom_port = 8097  # port of the visdom server (1 to 65535)

# ---------------------------------------------------------------------------- prediction and report
threshold = 0.5  # probability from which a voxel is liver (above 0, below 1)
stride = 12  # distance between the first slices of two windows (slices, 1 or more, at most size)
maximum_hole = 5e4  # holes with fewer voxels are filled (voxels, 0 or more)
test_slice_thickness = slice_thickness  # distance between slices for the network (mm, above 0, or None = as stored)
surface_tolerance = 2.0  # largest distance at which two surfaces agree, for surface_dice (mm, 0 or more)
report_surfaces = 20  # cases shown as a 3D surface in report.html, the worst first (cases, 0 or more)

# ---------------------------------------------------------------------------- dense CRF
z_expand = 10  # slices added on both sides to the bounding box of the prediction (voxels, 0 or more)
x_expand = 30  # the same along array axis 1, the rows (voxels, 0 or more)
y_expand = 30  # the same along array axis 2, the columns (voxels, 0 or more)
max_iter = 20  # mean-field iterations (1 or more)
s1 = 1.0  # Gaussian kernel: standard deviation in space (voxels, above 0)
s2 = 10.0  # bilateral kernel: standard deviation in space (voxels, above 0)
s3 = 10.0  # bilateral kernel: standard deviation in intensity (HU, above 0)
crf_engine = 'grid'  # implementation: grid, or pydensecrf as in the reference
crf_tolerance = 0.0  # stop after an iteration that changes at most this share of the labels (0 to below 1; 0 = never)
