'use strict';

// A click on a heading sorts the table by it, a second click reverses the order; rows without a value stay at the end.
const table = document.getElementById('cases');
const headings = [...table.tHead.rows[1].cells];
const naturalOrder = new Intl.Collator('en', {numeric: true});

function sortBy(heading) {
  const column = headings.indexOf(heading);
  const isDescending = heading.getAttribute('aria-sort') === 'ascending';
  const value = row => row.cells[column].dataset.value;
  // Equal numbers are compared first, since Infinity - Infinity is NaN.
  const compare = column ? (a, b) => Number(a) === Number(b) ? 0 : Number(a) - Number(b) : naturalOrder.compare;
  const rows = [...table.tBodies[0].rows];
  const withValue = rows.filter(row => value(row) !== '');
  withValue.sort((a, b) => (isDescending ? -1 : 1) * compare(value(a), value(b)));
  table.tBodies[0].append(...withValue, ...rows.filter(row => value(row) === ''));
  headings.forEach(other => other.removeAttribute('aria-sort'));
  heading.setAttribute('aria-sort', isDescending ? 'descending' : 'ascending');
}
headings.forEach(heading => heading.firstChild.addEventListener('click', () => sortBy(heading)));

// A click on a picture enlarges it; another click, or Escape, closes the enlarged picture.
const dialog = document.querySelector('dialog');
dialog.addEventListener('click', () => dialog.close());
document.querySelectorAll('figure > button').forEach(button => button.addEventListener('click', () => {
  const picture = button.firstElementChild;
  Object.assign(dialog.firstElementChild, {src: picture.src, alt: picture.alt});
  dialog.showModal();
}));

// The surfaces are stored as uint16 numbers; Plotly draws those whose boxes are checked.
const caseSelect = document.getElementById('chosen');

function decodeUint16(base64) {
  return new Uint16Array(Uint8Array.from(atob(base64), c => c.charCodeAt(0)).buffer);
}

function makeMesh(surface, name, color, opacity) {
  const vertices = decodeUint16(surface.vertices), triangles = decodeUint16(surface.triangles);
  const everyThird = (array, first) => array.filter((_, n) => n % 3 === first);
  const [x, y, z] = [0, 1, 2].map(k => Float32Array.from(everyThird(vertices, k), v => surface.origin[k] + surface.scale[k] * v));
  const [i, j, k] = [0, 1, 2].map(k => everyThird(triangles, k));
  return {type: 'mesh3d', name, x, y, z, i, j, k, color, opacity, hoverinfo: 'skip',
          lighting: {ambient: 0.5, diffuse: 0.7, specular: 0.15, roughness: 0.7, fresnel: 0.05},
          lightposition: {x: -50000, y: -100000, z: 100000}};
}

function drawSurfaces() {
  const surfaces = caseSelect.value ? JSON.parse(document.getElementById('surfaces-' + caseSelect.value).textContent) : {};
  const meshes = [];
  for (const box of document.querySelectorAll('#choice input[type=checkbox]')) {
    box.disabled = caseSelect.value !== '' && !surfaces[box.name];
    box.parentElement.className = box.disabled ? 'off' : '';
    box.parentElement.lastElementChild.textContent = box.disabled ? (box.name in surfaces ? ': empty' : ': none') : '';
    if (box.checked && surfaces[box.name]) {
      meshes.push(makeMesh(surfaces[box.name], box.name, box.value, Number(document.getElementById('opacity').value)));
    }
  }
  const plot = document.getElementById('surface');
  plot.hidden = !caseSelect.value;
  if (plot.hidden) {
    return;
  }
  const {color} = getComputedStyle(document.body);
  const axis = title => ({title: {text: title}, color, gridcolor: '#888888', zeroline: false, showspikes: false});
  const layout = {
    scene: {xaxis: axis('to the left'), yaxis: axis('to the back'), zaxis: axis('to the head'), aspectmode: 'data', dragmode: 'orbit',
            camera: {eye: {x: -0.6, y: -2, z: 0.5}, center: {x: 0, y: 0, z: -0.1}}},
    margin: {l: 0, r: 0, t: 0, b: 0}, paper_bgcolor: 'rgba(0, 0, 0, 0)', font: {color, family: 'sans-serif'}, showlegend: false,
    modebar: {bgcolor: 'rgba(0, 0, 0, 0)', color: '#888', activecolor: color},
    uirevision: 'the view stays when another case is chosen',
  };
  // Only these buttons, since some of the others would send the picture to a web site.
  const buttons = [['toImage', 'orbitRotation', 'pan3d', 'zoom3d', 'resetCameraDefault3d']];
  Plotly.react(plot, meshes, layout, {displaylogo: false, responsive: true, modeBarButtons: buttons});
}

if (caseSelect) {
  document.getElementById('choice').addEventListener('change', drawSurfaces);
  document.querySelectorAll('a[data-case]').forEach(link => link.addEventListener('click', () => {
    caseSelect.value = link.dataset.case;
    drawSurfaces();
  }));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawSurfaces);
}
